// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/udsipc/udsipc/internal/latency"
	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/wire"
)

// A testQueue is a queue of which each test expects something exact.
type testQueue struct {
	*queue.Queue
	testing.TB
}

// queueOf returns a queue with the bounds of c, or with wide ones.
func queueOf(tb testing.TB, c queue.Limits) testQueue {
	if c.Messages == 0 {
		c.Messages = 1000
	}
	if c.Bytes == 0 {
		c.Bytes = 1 << 30
	}
	return testQueue{queue.New(c), tb}
}

// push has each message accepted.
func (q testQueue) push(messages ...string) {
	q.Helper()
	for _, message := range messages {
		if err := q.EnqueueAndWake([]byte(message)); err != nil {
			q.Fatalf("push %.20q: %v", message, err)
		}
	}
}

// refused has a message refused with this error.
func (q testQueue) refused(message string, want error) {
	q.Helper()
	if err := q.EnqueueAndWake([]byte(message)); !errors.Is(err, want) {
		q.Errorf("push %.20q: %v, want %v", message, err, want)
	}
}

// take returns what is to be written, about limit bytes, and at most slices of it.
func (q testQueue) take(limit, slices int) [][]byte {
	return q.NextBatch(make([][]byte, 0, slices), limit)
}

// takes takes up to a megabyte, and wants these bytes of frames.
func (q testQueue) takes(want ...string) {
	q.Helper()
	bufs := q.take(1<<20, 64)
	if got := string(bytes.Join(bufs, nil)); got != strings.Join(want, "") || len(want) == 0 && len(bufs) > 0 {
		q.Errorf("taken are %.80q in %d pieces, want %.80q", got, len(bufs), want)
	}
}

// written has the kernel take n bytes, and wants so many messages to be whole.
func (q testQueue) written(n, want int) {
	q.Helper()
	if messages, err := q.MarkWritten(n); messages != want || err != nil {
		q.Errorf("%d bytes are %d messages, %v; want %d", n, messages, err, want)
	}
}

// sends takes and writes what there is, and wants so many messages.
func (q testQueue) sends(want int) {
	q.Helper()
	q.written(len(bytes.Join(q.take(1<<30, 1000), nil)), want)
}

// acknowledges acknowledges messages that were sent.
func (q testQueue) acknowledges(number uint64) {
	q.Helper()
	if early, err := q.Acknowledge(number); early || err != nil {
		q.Errorf("acknowledge %d: %v, %v", number, early, err)
	}
}

// resumes begins a connection with a limit, whose reader has handled messages up to this one.
func (q testQueue) resumes(handled, limit, want uint64) {
	q.Helper()
	if released, err := q.ApplyWelcome(handled, limit); released != want || err != nil {
		q.Errorf("resume behind %d: %d were released, %v; want %d", handled, released, err, want)
	}
}

// rewinds loses the connection.
func (q testQueue) rewinds(wantPartial, wantSize uint64) {
	q.Helper()
	if partial, size := q.Rewind(); partial != wantPartial || size != wantSize {
		q.Errorf("message %d of %d bytes was taken in part, want %d of %d", partial, size, wantPartial, wantSize)
	}
}

// tallies wants these counters.
func (q testQueue) tallies(want queue.Counts) {
	q.Helper()
	if got := q.ReadCounts(); got != want {
		q.Errorf("counted are %+v, want %+v", got, want)
	}
}

// ackTimes says how long the acknowledgements took.
func (q testQueue) ackTimes() latency.Summary {
	_, times := q.Snapshot()
	return times
}

// tally is what is counted without retransmissions.
func tally(accepted, refused, sent, dropped, expired, undelivered, queued, bytes, unacknowledged uint64) queue.Counts {
	return queue.Counts{
		Accepted: accepted, Refused: refused, Sent: sent, Dropped: dropped, Expired: expired,
		Undelivered: undelivered, Queued: queued, QueuedBytes: bytes, Unacknowledged: unacknowledged,
	}
}

// wakes says whether the goroutine that drains was told to look.
func (q testQueue) wakes() bool {
	select {
	case <-q.Ready():
		return true
	default:
		return false
	}
}

// frame is a short message as it is written.
func frame(message string) string { return string(wire.AppendFrame(nil, []byte(message))) }

// sized returns a message whose frame has so many bytes.
func sized(size int) string {
	message := strings.Repeat("x", size)
	for len(frame(message)) > size {
		message = message[1:]
	}
	return message
}
