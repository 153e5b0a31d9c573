// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"
)

// TestContenders_Deliver_EachMessageOnce shows that every contender delivers each message once,
// whole and in order: else its rate would mean nothing.
func TestContenders_Deliver_EachMessageOnce(t *testing.T) {
	for _, c := range contenders {
		for _, size := range sizes {
			t.Run(c.name+"/"+size.name, func(t *testing.T) { deliver(t, c, size.bytes) })
		}
	}
}

// deliver sends 16 MiB, twice what the NATS window holds, so that every flow control is met.
func deliver(t *testing.T, c contender, size int) {
	messages := uint64(16 << 20 / size)
	var received atomic.Uint64
	done := make(chan struct{})
	send, flush := c.open(t, func(data []byte) {
		n := received.Add(1)
		if len(data) != size {
			t.Errorf("message %d has %d bytes, want %d", n, len(data), size)
		} else if got := binary.BigEndian.Uint64(data); got != n {
			t.Errorf("message %d is number %d", n, got)
		}
		if n == messages {
			close(done)
		}
	})
	// Each message has its own bytes: gRPC may still hold those of the last one.
	all := make([]byte, messages*uint64(size))
	for n := range messages {
		data := all[n*uint64(size):][:size]
		binary.BigEndian.PutUint64(data, n+1)
		if err := send(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := flush(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%d messages arrived, want %d", received.Load(), messages)
	}
}

func BenchmarkStream(b *testing.B) {
	for _, size := range sizes {
		for _, c := range contenders {
			b.Run(size.name+"/"+c.name, func(b *testing.B) { stream(b, c, size.bytes) })
		}
	}
}

// TestContenders_Call_ReturnsResponse shows that every contender answers each call with what it was asked.
func TestContenders_Call_ReturnsResponse(t *testing.T) {
	for _, c := range callers {
		t.Run(c.name, func(t *testing.T) {
			call := c.open(t)
			for n := range 100 {
				request := bytes.Repeat([]byte{byte(n)}, 1+n*10)
				if response, err := call(request); err != nil || !bytes.Equal(response, request) {
					t.Fatalf("call %d: %d bytes, %v", n, len(response), err)
				}
			}
		})
	}
}

func BenchmarkCall(b *testing.B) {
	for _, size := range sizes[:2] {
		for _, c := range callers {
			b.Run(size.name+"/"+c.name, func(b *testing.B) { atOnce(b, c, size.bytes, 1) })
		}
	}
}
