// SPDX-License-Identifier: Apache-2.0

package queue_test

// What is taken of a queue, what the kernel has taken of that, and what a reader may acknowledge.

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/latency"
	"github.com/udsipc/udsipc/internal/queue"
)

// TestQueue_NextBatch_IsBounded: about so many bytes, and no more pieces than asked for.
func TestQueue_NextBatch_IsBounded(t *testing.T) {
	const size = 70_000
	for _, test := range []struct{ limit, slices, want int }{
		{1, 9, 1}, {size, 9, 1}, {size + 1, 9, 2}, {2 * size, 9, 2}, {2*size + 1, 9, 3}, {1 << 30, 9, 3},
		{1 << 30, 2, 2}, {1 << 30, 1, 1}, {0, 9, 0}, {1 << 30, 0, 0},
	} {
		q := queueOf(t, queue.Limits{})
		q.push(sized(size), sized(size), sized(size))
		for again := range 2 { // What was taken and not written is taken again.
			if bufs := q.take(test.limit, test.slices); len(bufs) != test.want || len(bytes.Join(bufs, nil)) != test.want*size {
				t.Errorf("limit %d and %d, time %d: %d pieces, want %d", test.limit, test.slices, again, len(bufs), test.want)
			}
			if _, err := q.MarkWritten(0); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestQueue_Take_CountsPiecesOfOneChunk by what they have, wherever they lie.
func TestQueue_Take_CountsPiecesOfOneChunk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(t, queue.Limits{MaxAge: time.Hour})
		for range 4 {
			q.push(sized(5000))
			time.Sleep(time.Second)
		}
		for want, limit := range []int{0, 5000, 10_000, 15_000, 20_000} {
			if bufs := q.take(limit, 9); len(bufs) != want {
				t.Errorf("up to %d bytes: %d pieces, want %d", limit, len(bufs), want)
			}
			q.written(0, 0)
		}
		q.DiscardAll(nil)
	})
}

// TestQueue_PartialWrite_ReleasesSentMemory: a write that stops in a piece leaves no bytes of whole messages behind.
func TestQueue_PartialWrite_ReleasesSentMemory(t *testing.T) {
	q := queueOf(t, queue.Limits{})
	q.push("a", "bb", "c")
	q.takes(frame("a"), frame("bb"), frame("c"))
	q.written(3, 1)
	q.tallies(tally(3, 0, 1, 0, 0, 0, 2, 5, 0))
}

// TestQueue_NextBatch_ContinuesAfterWritten: what the kernel took of a frame is not taken again,
// and counts for the limit.
func TestQueue_NextBatch_ContinuesAfterWritten(t *testing.T) {
	q := queueOf(t, queue.Limits{})
	large := sized(70_000)
	q.push("abc", "def", large, "g")
	q.takes(frame("abc"), frame("def"), frame(large), frame("g"))
	q.written(2, 0)
	q.takes("bc", frame("def"), frame(large), frame("g"))
	q.written(2, 1)
	q.takes("c"[1:], frame("def"), frame(large), frame("g")) // The rest of the piece.
	q.written(5, 1)
	if bufs := q.take(69_999, 9); len(bufs) != 1 || len(bufs[0]) != 69_999 {
		t.Errorf("%d pieces", len(bufs))
	}
	q.written(69_998, 0)
	if bufs := q.take(70_001, 9); len(bufs) != 2 || string(bytes.Join(bufs, nil)) != "x"+frame("g") {
		t.Errorf("%d pieces: %.20q", len(bufs), bytes.Join(bufs, nil))
	}
	q.written(3, 2)
	q.tallies(tally(4, 0, 4, 0, 0, 0, 0, 0, 0))
}

// TestQueue_MarkWritten_CountsWholeMessages: each once, wherever the writes stop.
func TestQueue_MarkWritten_CountsWholeMessages(t *testing.T) {
	for _, acks := range []bool{false, true} {
		for step := 1; step <= 11; step++ {
			q := queueOf(t, queue.Limits{Acks: acks})
			q.push("a", "bb", sized(70_000), "cc", "d")
			sent, total := 0, 0
			for total < 70_010 {
				n := len(bytes.Join(q.take(1<<20, 64), nil))
				if n != 70_010-total {
					t.Fatalf("steps of %d: %d are left of %d", step, n, 70_010-total)
				}
				n = min(n, step)
				if total > 20 && total < 69_990 {
					n = 69_990 - total
				}
				messages, err := q.MarkWritten(n)
				if err != nil {
					t.Fatal(err)
				}
				total += n
				sent += messages
				want := 0
				for _, end := range []int{2, 5, 70_005, 70_008, 70_010} {
					if total >= end {
						want++
					}
				}
				if sent != want {
					t.Fatalf("steps of %d: %d bytes are %d messages, want %d", step, total, sent, want)
				}
				if unacknowledged := q.Unacknowledged(); acks && unacknowledged != uint64(want) {
					t.Fatalf("%d are unacknowledged, want %d", unacknowledged, want)
				}
			}
		}
	}
}

// TestQueue_NextBatch_StopsAtReaderLimit: nothing over its limit, and nothing behind that.
func TestQueue_NextBatch_StopsAtReaderLimit(t *testing.T) {
	q := queueOf(t, queue.Limits{Acks: true})
	q.resumes(0, 5, 0)
	q.push("a", "12345", "123456", "b")
	large := sized(70_000)
	q.push(large, "c")
	q.takes(frame("a"), frame("12345"))
	q.written(1, 0)
	q.takes("a", frame("12345"))
	q.written(7, 2)
	q.takes()
	if data, burnt := q.RemoveOversized(); data != nil || burnt {
		t.Errorf("%q is refused while others are under way", data)
	}
	q.acknowledges(1)
	if data, _ := q.RemoveOversized(); data != nil || q.wakes() != true {
		t.Errorf("%q is refused while others are under way", data)
	}
	q.acknowledges(2)
	if !q.wakes() {
		t.Error("nobody is told that the last one is acknowledged, in front of one that is too large")
	}
	if data, burnt := q.RemoveOversized(); string(data) != "123456" || burnt {
		t.Errorf("%q is refused, burnt %v", data, burnt)
	}
	if data, burnt := q.RemoveOversized(); data != nil || burnt {
		t.Errorf("%q is refused, burnt %v", data, burnt)
	}
	q.tallies(tally(6, 0, 2, 0, 0, 1, 3, 70_004, 0))
	q.takes(frame("b"))
	q.written(2, 1)
	q.acknowledges(3)
	if data, burnt := q.RemoveOversized(); string(data) != large[:len(data)] || len(data) != len(large) || burnt {
		t.Errorf("%.20q is refused, burnt %v", data, burnt)
	}
	q.takes(frame("c"))
}

// TestQueue_OversizedPartlyWritten_IsKept: a message that this reader has begun to take is not refused.
func TestQueue_OversizedPartlyWritten_IsKept(t *testing.T) {
	q := queueOf(t, queue.Limits{Acks: true})
	q.push("123456")
	q.takes(frame("123456"))
	q.written(3, 0)
	q.resumes(0, 5, 0) // Before rewind.
	if data, _ := q.RemoveOversized(); data != nil {
		t.Errorf("%q is refused", data)
	}
	q.rewinds(1, 6)
	q.resumes(0, 6, 0)
	if data, _ := q.RemoveOversized(); data != nil {
		t.Errorf("%q is refused", data)
	}
	q.resumes(0, 5, 0)
	if data, burnt := q.RemoveOversized(); string(data) != "123456" || burnt {
		t.Errorf("%q is refused, burnt %v", data, burnt)
	}
	if data, _ := q.RemoveOversized(); data != nil {
		t.Errorf("%q is refused of an empty queue", data)
	}
}

// TestQueue_OversizedSent_KeepsItsNumber: a message that an earlier reader took, and this one
// refuses, takes its number along.
func TestQueue_OversizedSent_KeepsItsNumber(t *testing.T) {
	q := queueOf(t, queue.Limits{Acks: true})
	q.push("123456", "b")
	q.sends(2)
	q.rewinds(0, 0)
	q.resumes(0, 5, 0)
	q.takes()
	if data, burnt := q.RemoveOversized(); string(data) != "123456" || !burnt {
		t.Errorf("%q is refused, burnt %v", data, burnt)
	}
	if acked := q.Sequence().Acked; acked != 1 {
		t.Errorf("the next hello follows message %d", acked)
	}
	want := tally(2, 0, 0, 0, 0, 1, 1, 2, 0)
	want.Retransmitted = 2
	q.tallies(want)
	q.rewinds(0, 0)
	q.resumes(1, 5, 0)
	q.takes(frame("b"))
	q.written(2, 1)
	q.acknowledges(2)
	want = tally(2, 0, 1, 0, 0, 1, 0, 0, 0)
	want.Retransmitted = 3
	q.tallies(want)
}

// TestQueue_Acknowledge_RemovesMessages: those that name what was sent, once, and no other.
func TestQueue_Acknowledge_RemovesMessages(t *testing.T) {
	q := queueOf(t, queue.Limits{Acks: true})
	refused := func(number uint64, text string) {
		t.Helper()
		if early, err := q.Acknowledge(number); early ||
			!errors.Is(err, errdefs.ErrInvalidSession) ||
			err.Error() != "udsipc: invalid session: malformed acknowledgement: "+text {
			t.Errorf("acknowledge %d: %v, %v", number, early, err)
		}
	}
	refused(1, "message 1, want one of 1 to 0")
	q.push("a", "b", "c", "d")
	refused(0, "message 0 after message 0")
	q.sends(4)
	refused(5, "message 5, want one of 1 to 4")
	q.acknowledges(2)
	q.tallies(tally(4, 0, 2, 0, 0, 0, 2, 8, 2))
	if passed := q.RemovedThrough(); passed != 2 {
		t.Errorf("all up to %d have left", passed)
	}
	refused(2, "message 2, want one of 3 to 4")
	q.acknowledges(4)
	if q.wakes() {
		t.Error("somebody was woken")
	}
	q.tallies(tally(4, 0, 4, 0, 0, 0, 0, 0, 0))
	q.push("e")
	q.sends(1)
	q.Close()
	q.acknowledges(5)
	if !q.wakes() {
		t.Error("the end of a queue that is closed wakes nobody")
	}
	q.push0(t)
	q.DiscardAll(nil)
	if early, err := q.Acknowledge(9); early || err != nil {
		t.Errorf("acknowledge in a queue that is sealed: %v, %v", early, err)
	}
}

// push0 has a closed queue refuse a message.
func (q testQueue) push0(t *testing.T) {
	t.Helper()
	q.refused("x", errdefs.ErrStopped)
}

// TestQueue_EarlyAck_WaitsForWrite: one of what is just being written counts once that has returned.
func TestQueue_EarlyAck_WaitsForWrite(t *testing.T) {
	q := queueOf(t, queue.Limits{Acks: true})
	q.push("a", "b", "c")
	q.takes(frame("a"), frame("b"), frame("c"))
	q.written(3, 1)
	q.takes("b", frame("c"))
	q.acknowledges(1) // It is known to be sent.
	if early, err := q.Acknowledge(4); early || err == nil {
		t.Errorf("message 4 of 3 is acknowledged: %v, %v", early, err)
	}
	for _, number := range []uint64{2, 3} {
		if early, err := q.Acknowledge(number); !early || err != nil {
			t.Errorf("acknowledge %d: %v, %v", number, early, err)
		}
	}
	for _, number := range []uint64{0, 1, 2, 3} {
		if early, err := q.Acknowledge(number); early || err == nil {
			t.Errorf("acknowledge %d after 3: %v, %v", number, early, err)
		}
	}
	q.tallies(tally(3, 0, 1, 0, 0, 0, 2, 6, 0))
	q.written(3, 2)
	q.tallies(tally(3, 0, 3, 0, 0, 0, 0, 0, 0))
	q.push("d", "e")
	q.takes(frame("d"), frame("e"))
	if early, err := q.Acknowledge(5); !early || err != nil {
		t.Errorf("acknowledge 5: %v, %v", early, err)
	}
	if messages, err := q.MarkWritten(3); messages != 1 || !errors.Is(err, errdefs.ErrInvalidSession) {
		t.Errorf("%d messages, %v: message 5 was acknowledged, and not sent", messages, err)
	}
	q.rewinds(4, 1) // The oldest of which something was taken.
	q.takes(frame("d"), frame("e"))
	q.written(4, 2) // What was early is forgotten.
	q.acknowledges(4)
}

// TestQueue_EarlyAckOfFirst_WaitsForWrite message there is.
func TestQueue_EarlyAckOfFirst_WaitsForWrite(t *testing.T) {
	q := queueOf(t, queue.Limits{Acks: true})
	q.push("a")
	q.takes(frame("a"))
	if early, err := q.Acknowledge(1); !early || err != nil {
		t.Errorf("acknowledge 1: %v, %v", early, err)
	}
	q.written(2, 1)
	q.tallies(tally(1, 0, 1, 0, 0, 0, 0, 0, 0))
}

// TestQueue_EarlyAckOfSegments_WaitsForWrite counts all that is being written, and nothing behind.
func TestQueue_EarlyAckOfSegments_WaitsForWrite(t *testing.T) {
	q := queueOf(t, queue.Limits{Acks: true})
	q.push(sized(70_000), "b", sized(70_000), "d")
	q.written(len(bytes.Join(q.take(1, 1), nil)), 1)
	bufs := q.take(1<<20, 2)
	for number, want := range map[uint64]bool{4: false, 5: false} {
		if early, err := q.Acknowledge(number); early != want || err == nil {
			t.Errorf("acknowledge %d: %v, %v", number, early, err)
		}
	}
	if early, err := q.Acknowledge(3); !early || err != nil {
		t.Errorf("acknowledge 3: %v, %v", early, err)
	}
	q.written(len(bytes.Join(bufs, nil)), 2)
	q.tallies(tally(4, 0, 3, 0, 0, 0, 1, 2, 0))
	q.takes(frame("d"))
}

// TestQueue_Rewind_ReturnsToFrameBoundary: what was sent and not acknowledged comes again, from its beginning.
func TestQueue_Rewind_ReturnsToFrameBoundary(t *testing.T) {
	for _, acks := range []bool{false, true} {
		q := queueOf(t, queue.Limits{Acks: acks})
		q.push("a", "bb", "ccc")
		q.takes(frame("a"), frame("bb"), frame("ccc"))
		q.rewinds(0, 0)
		q.takes(frame("a"), frame("bb"), frame("ccc"))
		q.written(1, 0)
		q.rewinds(1, 1)
		q.takes(frame("a"), frame("bb"), frame("ccc"))
		q.written(4, 1)
		if acks {
			q.acknowledges(1)
		}
		q.rewinds(2, 2)
		q.takes(frame("bb"), frame("ccc"))
		q.written(3, 1)
		if acks {
			q.rewinds(2, 2)
			q.resumes(2, 0, 1)
		} else {
			q.rewinds(0, 0)
		}
		q.takes(frame("ccc"))
		q.written(4, 1)
		if acks {
			q.acknowledges(3)
		}
		want := tally(3, 0, 3, 0, 0, 0, 0, 0, 0)
		q.tallies(want)
	}
}

// TestQueue_Welcome_RemovesHandled: what the reader has handled has left, the rest comes again and is counted.
func TestQueue_Welcome_RemovesHandled(t *testing.T) {
	q := queueOf(t, queue.Limits{Acks: true})
	q.push("a", "b", "c", "d")
	q.takes(frame("a"), frame("b"), frame("c"), frame("d"))
	q.written(6, 3)
	q.acknowledges(1)
	q.rewinds(2, 1)
	if released, err := q.ApplyWelcome(4, 0); released != 0 ||
		!errors.Is(err, errdefs.ErrInvalidSession) ||
		err.Error() != "udsipc: invalid session: the reader has handled message 4, but only 3 were sent" {
		t.Errorf("%d released, %v", released, err)
	}
	q.resumes(0, 0, 0)
	q.resumes(1, 0, 0)
	q.resumes(2, 0, 1)
	want := tally(4, 0, 2, 0, 0, 0, 2, 4, 0)
	want.Retransmitted = 2 + 2 + 1
	q.tallies(want)
	q.takes(frame("c"), frame("d"))
	q.written(4, 2)
	q.acknowledges(4)
	q.DiscardAll(nil)
	if released, err := q.ApplyWelcome(4, 0); released != 0 || !errors.Is(err, errdefs.ErrStopped) {
		t.Errorf("%d released, %v", released, err)
	}
}

// TestQueue_AckTimes_AreMeasured: from when a message was last taken to its acknowledgement, each message once.
func TestQueue_AckTimes_AreMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(t, queue.Limits{Acks: true})
		time.Sleep(time.Hour)
		q.push("a", sized(70_000), "c", "d")
		time.Sleep(time.Hour)
		q.sends(4)
		time.Sleep(time.Second)
		q.rewinds(0, 0)
		q.sends(4)
		time.Sleep(3 * time.Millisecond)
		q.acknowledges(3)
		if got := q.ackTimes(); got.Count != 3 || got.Max != 3*time.Millisecond || got.P50 != got.Max {
			t.Errorf("%+v", got)
		}
		time.Sleep(time.Millisecond)
		q.acknowledges(4)
		if got := q.ackTimes(); got.Count != 4 || got.Max != 4*time.Millisecond ||
			got.P50 < 3*time.Millisecond || got.P50 >= got.P99 {
			t.Errorf("%+v", got)
		}
		plain := queueOf(t, queue.Limits{})
		plain.push("a")
		plain.sends(1)
		if got := plain.ackTimes(); got != (latency.Summary{}) {
			t.Errorf("%+v", got)
		}
	})
}

// TestQueue_WaitIdle_StopsNotifying waits until the goroutine that drains has found nothing more.
// From then on nobody is told to drain.
func TestQueue_WaitIdle_StopsNotifying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(t, queue.Limits{})
		q.push("a")
		failed, done := make(chan struct{}), make(chan struct{})
		go func() { q.WaitIdle(failed); close(done) }()
		synctest.Wait()
		q.sends(1)
		synctest.Wait()
		select {
		case <-done:
			t.Error("reserved before it was known that nothing is left")
		default:
		}
		q.takes()
		<-done
		if _, idle, err := q.Enqueue([]byte("b")); idle || err != nil {
			t.Errorf("somebody else has to drain: %v, %v", idle, err)
		}
		go func() { q.WaitIdle(failed); done <- struct{}{} }()
		done = make(chan struct{})
		synctest.Wait()
		close(failed)
		<-done
		q.sends(1)
		q.takes()
		if q.wakes() {
			t.Error("somebody is told that nothing is left who does not wait for it")
		}
		q.WaitIdle(failed) // Nobody drains: at once.
		q.takes()
		if q.wakes() {
			t.Error("somebody is told that nothing is left who does not wait for it")
		}
	})
}
