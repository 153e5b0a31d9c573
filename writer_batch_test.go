// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestWriter_WriteBatches_ArriveWhole over each policy: all or none.
func TestWriter_WriteBatches_ArriveWhole(t *testing.T) {
	path, r := ipctest.SocketPath(t), &numberedReader{}
	r.start(t, path)
	for policy := udsipc.OverflowRefuse; policy <= udsipc.OverflowDropOldest; policy++ {
		w := ipctest.StartWriter(t, path, udsipc.WithAcknowledgements(), udsipc.WithOverflow(policy),
			udsipc.WithMaxBufferedWrites(5), udsipc.WithMaxBufferedBytes(100), udsipc.WithMaxMessageSize(50))
		if err := w.WriteMessages([][]byte{[]byte("a"), nil, []byte("c")}); err != nil {
			t.Error(err)
		}
		if err := w.WriteMessages(nil); err != nil {
			t.Error(err)
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.WriteFrames(ipctest.Frames("d", "e"), 2); err != nil {
			t.Error(err)
		}
		large, whole := make([]byte, 51), make([]byte, 50)
		for name, err := range map[string]error{
			"a message":       w.WriteMessages([][]byte{{1}, large}),
			"the bytes":       w.WriteMessages([][]byte{whole, whole}),
			"their number":    w.WriteMessages(make([][]byte, 6)),
			"a framed one":    w.WriteFrames(ipctest.Frames("", string(large)), 2),
			"framed together": w.WriteFrames(ipctest.Frames(string(whole), string(whole)), 2),
		} {
			if !errors.Is(err, udsipc.ErrMessageTooLarge) {
				t.Errorf("%v, %s: %v", policy, name, err)
			}
		}
		if err := w.WriteFrames([]byte{1}, 1); !errors.Is(err, udsipc.ErrInvalidLengthPrefix) {
			t.Error(err)
		}
		ipctest.Stop(t, w)
		if m := w.Metrics(); m.TooLarge != 2+2+6+2+2 || m.Accepted != 5 {
			t.Errorf("%v: %+v", policy, m)
		}
		if err := w.WriteMessages([][]byte{{1}}); err != udsipc.ErrStopped {
			t.Error(err)
		}
		r.wants(t, "1=a", "2=", "3=c", "4=d", "5=e")
	}
}

func TestWriter_WriteBatches_DoNotAllocate(t *testing.T) {
	path := ipctest.SocketPath(t)
	ipctest.StartReader(t, func([]byte) error { return nil }, path)
	w := ipctest.StartWriter(t, path, udsipc.WithOverflow(udsipc.OverflowBlock))
	messages, texts := make([][]byte, 100), make([]string, 100)
	frames := ipctest.Frames(texts...)
	for name, write := range map[string]func() error{
		"messages": func() error { return w.WriteMessages(messages) },
		"frames":   func() error { return w.WriteFrames(frames, len(texts)) },
	} {
		if got := testing.AllocsPerRun(2000, func() {
			if err := write(); err != nil {
				t.Fatal(err)
			}
		}); got > 0 && !ipctest.RaceEnabled {
			t.Errorf("%v allocations for a batch of %s, both ends together", got, name)
		}
	}
}

// BenchmarkStreamBatches writes messages in batches of 64: each with a call of its own, then as messages
// and as frames in one call.
func BenchmarkStreamBatches(b *testing.B) {
	const batch = 64
	for _, size := range benchSizes[:4] {
		message := bytes.Repeat([]byte{'x'}, size.bytes)
		messages, texts := make([][]byte, batch), make([]string, batch)
		for i := range batch {
			messages[i], texts[i] = message, string(message)
		}
		frames := ipctest.Frames(texts...)
		for _, form := range []struct {
			name  string
			write func(w *udsipc.Writer) error
		}{
			{"calls", func(w *udsipc.Writer) error {
				for _, m := range messages {
					if err := w.WriteMessage(m); err != nil {
						return err
					}
				}
				return nil
			}},
			{"messages", func(w *udsipc.Writer) error { return w.WriteMessages(messages) }},
			{"frames", func(w *udsipc.Writer) error { return w.WriteFrames(frames, batch) }},
		} {
			for _, mode := range []struct {
				name string
				opts []udsipc.WriterOption
			}{{"plain", nil}, {"acknowledged", []udsipc.WriterOption{udsipc.WithAcknowledgements()}}} {
				b.Run(size.name+"/"+form.name+"/"+mode.name, func(b *testing.B) {
					streamBatches(b, size.bytes, batch, form.write, mode.opts...)
				})
			}
		}
	}
}

// streamBatches writes at least b.N messages in batches.
func streamBatches(b *testing.B, size, batch int, write func(w *udsipc.Writer) error, opts ...udsipc.WriterOption) {
	batches := (b.N + batch - 1) / batch
	a, path := expect(batches*batch), ipctest.SocketPath(b)
	ipctest.StartReader(b, a.handle, path)
	w := ipctest.StartWriter(b, path, append(opts, udsipc.WithOverflow(udsipc.OverflowBlock))...)
	if err := w.WaitConnected(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	for range batches {
		if err := write(w); err != nil {
			b.Fatal(err)
		}
	}
	<-a.done
}

// TestWriter_WriteMessagesContext_EndsWithContext when there is no space for all of them.
func TestWriter_WriteMessagesContext_EndsWithContext(t *testing.T) {
	w, err := udsipc.NewWriter(ipctest.SocketPath(t), udsipc.WithMaxBufferedWrites(3))
	if err != nil {
		t.Fatal(err)
	}
	two := [][]byte{{1}, {2}}
	if err := w.WriteMessagesContext(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	err = w.WriteMessagesContext(ctx, two)
	if !errors.Is(err, udsipc.ErrBufferFull) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a full queue: %v", err)
	}
	if err := w.WriteMessagesContext(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a context that has ended: %v", err)
	}
	if m := w.Metrics(); m.Queued != 2 || m.Refused != 2 {
		t.Errorf("%+v", m)
	}
}
