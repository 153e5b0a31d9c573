// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestInput_Interrupt_TakesWhatComesAtOnce: what the program before it writes in its last moments is read, until it is
// silent.
func TestInput_Interrupt_TakesWhatComesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, interrupt := context.WithCancel(t.Context())
		from, to := io.Pipe()
		in := newInput(ctx, from)
		var writer sync.WaitGroup
		writer.Go(func() {
			for _, pause := range []time.Duration{0, time.Hour, 0, inputSilence - 1, inputSilence - 1, inputSilence + 1} {
				if time.Sleep(pause); pause == time.Hour {
					interrupt()
				}
				_, _ = io.WriteString(to, "x")
			}
		})
		got, err := io.ReadAll(in)
		if err != nil || string(got) != "xxxxx" || !in.ended || in.cut {
			t.Errorf("got %q, %v, ended %v, cut %v", got, err, in.ended, in.cut)
		}
		in.close()
		from.Close()
		writer.Wait()
	})
}

// TestInput_NeverPauses_IsCut: an input that goes on after the interrupt is read to a bound.
func TestInput_NeverPauses_IsCut(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	in := newInput(ctx, zeros{})
	defer in.close()
	n, err := io.Copy(io.Discard, in)
	if err != nil || n < inputRest || n > inputRest+inputChunk || !in.ended || !in.cut {
		t.Errorf("%d bytes, %v, ended %v, cut %v", n, err, in.ended, in.cut)
	}
}

// zeros is an endless input.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// TestInput_Bytes_AreInOrder: whatever the sizes of the reads are on both sides.
func TestInput_Bytes_AreInOrder(t *testing.T) {
	text := strings.Repeat("0123456789", inputChunk/3)
	for _, size := range []int{1000, inputChunk - 1, inputChunk, 3 * inputChunk} {
		in := newInput(t.Context(), strings.NewReader(text))
		var got bytes.Buffer
		for buffer := make([]byte, size); ; {
			n, err := in.Read(buffer)
			if got.Write(buffer[:n]); err == io.EOF {
				break
			}
		}
		if in.close(); got.String() != text || in.ended {
			t.Errorf("reads of %d bytes: %d bytes, want %d", size, got.Len(), len(text))
		}
	}
}
