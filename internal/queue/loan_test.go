// SPDX-License-Identifier: Apache-2.0

package queue_test

// Messages in the memory of their producers: how long a producer waits, and what becomes of the
// message when the connection is stuck, and when its context ends.

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/queue"
)

// loanSize is the size of a message that is lent.
const loanSize = 100_000

// A lentMessage is the write of one message. Its producer destroys it as soon as it may.
type lentMessage struct {
	data   []byte
	err    error
	after  time.Duration
	done   chan struct{}
	cancel context.CancelFunc
}

// writes has a producer write a message of size bytes.
func (q testQueue) writes(size int, fill byte) *lentMessage {
	ctx, cancel := context.WithCancel(context.Background())
	m := &lentMessage{data: bytes.Repeat([]byte{fill}, size), done: make(chan struct{}), cancel: cancel}
	began := time.Now()
	go func() { // Ends when the queue does not need the memory.
		defer close(m.done)
		m.err = q.EnqueueWaitAndWake(ctx, m.data)
		m.after = time.Since(began)
		clear(m.data)
	}()
	synctest.Wait()
	return m
}

// sound wants the queue to be in order.
func (q testQueue) sound() {
	q.Helper()
	if err := q.Check(); err != nil {
		q.Error(err)
	}
}

func (m *lentMessage) returned() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

// lends returns a queue whose connection is fast, and which lends.
func lends(t *testing.T, interrupt func()) testQueue {
	q := paced(t, queue.Limits{}).testQueue
	q.StartLoans(interrupt)
	return q
}

// isFrame wants b to be the frame of a message of loanSize bytes.
func isFrame(t *testing.T, b []byte, fill byte) {
	t.Helper()
	if want := frame(string(bytes.Repeat([]byte{fill}, loanSize))); string(b) != want {
		t.Errorf("%d bytes are not the frame of %q: %.10q", len(b), fill, b)
	}
}

// TestQueue_Loan_LastsUntilWritten in one write or in several, and the message is not copied.
func TestQueue_Loan_LastsUntilWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := lends(t, func() {})
		m := q.writes(loanSize, 'a')
		bufs := q.take(10_000, 64)
		if len(bufs) != 2 || len(bufs[0]) != 3 || &bufs[1][0] != &m.data[0] || len(bufs[1]) != 10_000 {
			t.Fatalf("%d slices, the last of %d bytes", len(bufs), len(bufs[1]))
		}
		taken := bytes.Join(bufs, nil)
		q.written(10_003, 0)
		bufs = q.take(1<<20, 64)
		taken = append(taken, bytes.Join(bufs, nil)...)
		if m.returned() {
			t.Error("the producer is back before its message is written")
		}
		q.written(loanSize-10_000, 1)
		<-m.done
		isFrame(t, taken, 'a')
		if m.err != nil || m.after != 0 {
			t.Errorf("%v after %v", m.err, m.after)
		}
		q.tallies(tally(2, 0, 2, 0, 0, 0, 0, 0, 0))
	})
}

// TestQueue_LoanSizes: what shares a chunk is copied.
func TestQueue_LoanSizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for size, lent := range map[int]bool{queue.ChunkSize: false, queue.ChunkSize + 1: true} {
			q := lends(t, func() {})
			m := q.writes(size-3, 'a')
			if m.returned() == lent {
				t.Errorf("a frame of %d bytes is lent: %v", size, !lent)
			}
			q.sends(1)
			<-m.done
		}
	})
}

// TestQueue_MessagesNeededLater_AreCopied: they may be sent again, dropped, or lie in a queue whose
// memory others share.
func TestQueue_MessagesNeededLater_AreCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for what, limits := range map[string]queue.Limits{
			"acknowledged": {Acks: true}, "drops": {DropOldest: true}, "ages": {MaxAge: time.Hour},
			"shares": {Shared: newShared(1 << 30)},
		} {
			q := paced(t, limits).testQueue
			q.StartLoans(func() {})
			if m := q.writes(loanSize, 'a'); !m.returned() {
				t.Errorf("%s: a message is lent", what)
			}
			q.TakeUndelivered()
		}
	})
}

// TestQueue_StuckConnection_RecallsLoan: the write is interrupted, the copy takes the place of the
// memory, and the next large messages wait for nothing.
func TestQueue_StuckConnection_RecallsLoan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var interrupted atomic.Int32
		q := lends(t, func() { interrupted.Add(1) })
		m := q.writes(loanSize, 'a')
		bufs := q.take(1<<20, 64)
		time.Sleep(5*time.Millisecond - 1)
		synctest.Wait()
		if interrupted.Load() != 0 {
			t.Error("interrupted while the connection may be fast")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if interrupted.Load() != 1 || m.returned() {
			t.Errorf("interrupted %d times; returned %v", interrupted.Load(), m.returned())
		}
		time.Sleep(5 * time.Millisecond)
		synctest.Wait()
		if interrupted.Load() != 2 || m.returned() {
			t.Errorf("interrupted %d times; returned %v", interrupted.Load(), m.returned())
		}
		taken := append([]byte(nil), bytes.Join(bufs, nil)[:1000]...)
		q.sound()
		q.written(1000, 0)
		<-m.done
		q.sound()
		bufs = q.take(1<<20, 64)
		isFrame(t, append(taken, bytes.Join(bufs, nil)...), 'a')

		began := time.Now()
		for range 100 {
			q.writes(loanSize, 'b')
		}
		time.Sleep(time.Minute)
		q.written(loanSize+3-1000, 1)
		q.StopLoans()
		if n := q.ReadCounts().Queued; n != 100 || time.Since(began) != time.Minute {
			t.Errorf("%d are queued after %v", n, time.Since(began))
		}
	})
}

// TestQueue_LongLoans_CopyNext: a producer that waits for long could do something else meanwhile. A
// large message may take longer, and a single long loan may be a coincidence.
func TestQueue_LongLoans_CopyNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = time.Millisecond + loanSize*time.Second>>30
		for lasts, copies := range map[time.Duration]int{0: 0, most: 0, most + 1: 16} {
			q := lends(t, func() {})
			for range 2 {
				m := q.writes(loanSize, 'a')
				if m.returned() {
					t.Errorf("a message after a loan of %v is copied", lasts)
				}
				time.Sleep(lasts - 10*time.Microsecond)
				bufs := q.take(1<<20, 64)
				time.Sleep(min(lasts, 10*time.Microsecond))
				q.written(len(bytes.Join(bufs, nil)), 1)
				<-m.done
			}
			for n := range copies + 1 {
				m := q.writes(loanSize, 'a')
				if lent := !m.returned(); lent != (n == copies) {
					t.Errorf("message %d after a loan of %v is lent: %v", n, lasts, lent)
				}
				q.sends(1)
				<-m.done
			}
		}
	})
}

// TestQueue_RepeatedLoans_StopAtStall: a producer finds out once that the connection is stuck.
func TestQueue_RepeatedLoans_StopAtStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := lends(t, func() {})
		began := time.Now()
		for range 100 {
			if err := q.EnqueueWaitAndWake(t.Context(), make([]byte, loanSize)); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 5*time.Millisecond {
			t.Errorf("100 messages to a stuck connection took %v", took)
		}
	})
}

// TestQueue_ContextEnds_RecallsLoan at once; the message stays.
func TestQueue_ContextEnds_RecallsLoan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		interrupted := make(chan struct{}, 1)
		q := lends(t, func() { interrupted <- struct{}{} })
		m := q.writes(loanSize, 'a')
		m.cancel()
		<-m.done // It is not in a write.
		if m.err != nil || m.after != 0 || len(interrupted) > 0 {
			t.Errorf("%v after %v, interrupted %d times", m.err, m.after, len(interrupted))
		}
		m = q.writes(loanSize, 'b')
		bufs := q.take(1<<20, 64)
		m.cancel()
		<-interrupted
		isFrame(t, bytes.Join(bufs[:len(bufs)/2], nil), 'a')
		q.written(0, 0)
		<-m.done
		q.StopLoans()
		if data, ok := q.RemoveHead(2); !ok || string(data) != string(bytes.Repeat([]byte{'a'}, loanSize)) {
			t.Error("the head is not the first message", ok)
		}
		isFrame(t, bytes.Join(q.take(1<<20, 64), nil), 'b')
	})
}
