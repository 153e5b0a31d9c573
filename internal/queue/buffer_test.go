// SPDX-License-Identifier: Apache-2.0

package queue_test

// Messages that are enqueued in the memory of the caller.

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
)

// bufferWith returns memory of size bytes with message in it, after space for the prefix.
func bufferWith(size int, message string) (b *queue.Buffer, from, to int) {
	b = queue.NewBuffer(size)
	return b, 32, 32 + copy(b.B[32:], message)
}

// enqueueBuffer has a message accepted, and reports whether it was copied.
func (q testQueue) enqueueBuffer(size int, message string, wantNumber uint64, wantIdle bool) (b *queue.Buffer) {
	q.Helper()
	b, from, to := bufferWith(size, message)
	if number, idle, err := q.EnqueueBuffer(b, from, to); number != wantNumber || idle != wantIdle || err != nil {
		q.Errorf("message %d, idle %v, %v; want %d, %v", number, idle, err, wantNumber, wantIdle)
	}
	return b
}

func TestQueue_EnqueueBuffer_CopiesOnlySmallMessages(t *testing.T) {
	q := queueOf(t, queue.Limits{Undrained: true})
	large, small := strings.Repeat("l", 20_000), strings.Repeat("s", 100)
	q.push("first")
	b := q.enqueueBuffer(32<<10, large, 2, false)
	q.enqueueBuffer(32<<10, small, 3, false)
	q.enqueueBuffer(100<<10, strings.Repeat("m", 100_000), 4, false) // Larger than a chunk.
	bufs := q.take(1<<20, 64)
	want := frame("first") + frame(large) + frame(small) + frame(strings.Repeat("m", 100_000))
	if got := string(bytes.Join(bufs, nil)); got != want || len(bufs) != 4 {
		t.Fatalf("%d bytes in %d pieces, want %d bytes in 4", len(got), len(bufs), len(want))
	}
	if &bufs[1][0] != &b.B[32-3] {
		t.Error("a large message was copied")
	}
	q.written(len(frame("first"))+10_000, 1) // A part of the second.
	q.rewinds(2, 20_000)
	if got := string(bytes.Join(q.take(1<<20, 64), nil)); got != want[len(frame("first")):] {
		t.Errorf("after the loss: %d bytes", len(got))
	}
	q.written(len(want)-len(frame("first")), 3)
	q.takes()
	q.enqueueBuffer(32<<10, large, 5, true)
	q.sends(1)
	q.tallies(tally(5, 0, 5, 0, 0, 0, 0, 0, 0))
}

func TestQueue_EnqueueBufferRefused_LeavesItToCaller(t *testing.T) {
	q := queueOf(t, queue.Limits{Bytes: 50_000})
	large := strings.Repeat("l", 30_000)
	q.enqueueBuffer(32<<10, large, 1, false)
	b, from, to := bufferWith(32<<10, large)
	if _, _, err := q.EnqueueBuffer(b, from, to); !errors.Is(err, errdefs.ErrBufferFull) {
		t.Errorf("a full queue: %v", err)
	}
	q.sends(1)
	if string(b.B[from:to]) != large {
		t.Error("the message of the caller has changed")
	}
	if number, _, err := q.EnqueueBuffer(b, from, to); number != 2 || err != nil {
		t.Errorf("again: message %d, %v", number, err)
	}
	q.Close()
	b, from, to = bufferWith(32<<10, large)
	if _, _, err := q.EnqueueBuffer(b, from, to); !errors.Is(err, errdefs.ErrStopped) {
		t.Errorf("a closed queue: %v", err)
	}
	b.Release()
	q.tallies(tally(2, 1, 1, 0, 0, 0, 1, 30_003, 0))
}
