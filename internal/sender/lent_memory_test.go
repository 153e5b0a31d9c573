// SPDX-License-Identifier: Apache-2.0

package sender_test

// Large messages whose producer uses its memory again as soon as the write returns.

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// stamp writes message n over data. Its bytes are all the same but for the number.
func stamp(data []byte, n uint64) {
	data[0] = byte(n)
	for filled := 1; filled < len(data); filled *= 2 {
		copy(data[filled:], data[:filled])
	}
	binary.BigEndian.PutUint64(data, n)
}

// checkStamped returns the number of a message, and wants it to be as stamp has made it.
func checkStamped(t *testing.T, data []byte) uint64 {
	n := binary.BigEndian.Uint64(data)
	if bytes.Count(data[8:], []byte{byte(n)}) != len(data)-8 {
		t.Errorf("message %d of %d bytes is not what was written", n, len(data))
	}
	return n
}

// TestWriter_ReusedMemory_ArrivesAsWritten: the reader is fast, then slow, then restarted.
func TestWriter_ReusedMemory_ArrivesAsWritten(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		const restarts = 3
		messages := ipctest.InShort(120, 40)
		var last, handled atomic.Uint64
		handle := func(data []byte) error {
			if n := checkStamped(t, data); n <= last.Swap(n) {
				t.Errorf("message %d is repeated or late", n)
			}
			if n := handled.Add(1); n%40 == 0 {
				time.Sleep(15 * time.Millisecond) // Longer than a producer waits for its memory.
			}
			return nil
		}
		w := on.StartWriter(t, udsipc.WithOverflow(udsipc.OverflowBlock), udsipc.WithMaxBufferedBytes(2<<20))
		data := make([]byte, 400_000)
		var sent uint64
		for range restarts {
			r := on.StartReader(t, handle)
			for i := range messages {
				sent++
				message := data[:[]int{100, 65_536, 70_000, 400_000}[i%4]]
				stamp(message, sent)
				if err := w.WriteMessage(message); err != nil {
					t.Fatal(err)
				}
				clear(message)
			}
			if err := w.Flush(t.Context()); err != nil {
				t.Error(err)
			}
			ipctest.Stop(t, r)
		}
		ipctest.Stop(t, w)
		if handled.Load() != sent {
			t.Errorf("%d messages were handled, want %d", handled.Load(), sent)
		}
	})
}

// TestWriter_LargeMessageStuckReader_Returns: the producer of a large message does not wait for a
// reader that has stopped to read, whatever its context, and the message is delivered or returned
// as it was written.
func TestWriter_LargeMessageStuckReader_Returns(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		for _, forced := range []bool{false, true} {
			release := make(chan struct{})
			var handled atomic.Uint64
			r := on.StartReader(t, func(data []byte) error {
				checkStamped(t, data)
				if handled.Add(1) == 20 {
					<-release
				}
				return nil
			})
			var undelivered atomic.Uint64
			w := on.StartWriter(t, udsipc.WithUndelivered(func(data []byte) {
				checkStamped(t, data)
				undelivered.Add(1)
			}))
			data := make([]byte, 300_000)
			const messages = 60
			for n := range uint64(messages) {
				stamp(data, n+1)
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				err := w.WriteMessageContext(ctx, data)
				cancel()
				if err != nil {
					t.Fatal(err)
				}
				clear(data)
			}
			if forced {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				if err := w.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) || undelivered.Load() == 0 {
					t.Errorf("forced Stop: %v, %d messages undelivered", err, undelivered.Load())
				}
				cancel()
			}
			close(release)
			if err := w.Stop(t.Context()); err != nil && !forced { // A forced one may leave something to report.
				t.Errorf("Stop: %v", err)
			}
			ipctest.Stop(t, r)
			// A forced Stop does not wait long for the batch that is being written: what it returns of it may arrive.
			n, sum := handled.Load(), handled.Load()+undelivered.Load()
			if n > messages || !forced && n != messages || sum < messages && on.Bare() && !on.Tcp() {
				t.Errorf("forced %v: %d handled, %d undelivered, want %d", forced, n, undelivered.Load(), messages)
			}
		}
	})
}
