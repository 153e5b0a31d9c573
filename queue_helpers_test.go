// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/udsipc/udsipc"
)

// A testQueue is a queue of which each test expects something exact.
type testQueue struct {
	udsipc.Queue
	testing.TB
}

// queueOf returns a queue with the bounds of c, or with wide ones.
func queueOf(tb testing.TB, c udsipc.QueueConfig) testQueue {
	if c.MaxMessages == 0 {
		c.MaxMessages = 1000
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = 1 << 30
	}
	return testQueue{udsipc.NewQueue(c), tb}
}

// push has each message accepted.
func (q testQueue) push(messages ...string) {
	q.Helper()
	for _, message := range messages {
		if err := q.Push([]byte(message)); err != nil {
			q.Fatalf("push %.20q: %v", message, err)
		}
	}
}

// refused has a message refused with this error.
func (q testQueue) refused(message string, want error) {
	q.Helper()
	if err := q.Push([]byte(message)); !errors.Is(err, want) {
		q.Errorf("push %.20q: %v, want %v", message, err, want)
	}
}

// takes takes up to a megabyte, and wants these bytes of frames.
func (q testQueue) takes(want ...string) {
	q.Helper()
	bufs := q.Take(1<<20, 64)
	if got := string(bytes.Join(bufs, nil)); got != strings.Join(want, "") || len(want) == 0 && len(bufs) > 0 {
		q.Errorf("taken are %.80q in %d pieces, want %.80q", got, len(bufs), want)
	}
}

// written has the kernel take n bytes, and wants so many messages to be whole.
func (q testQueue) written(n, want int) {
	q.Helper()
	if messages, err := q.Written(n); messages != want || err != nil {
		q.Errorf("%d bytes are %d messages, %v; want %d", n, messages, err, want)
	}
}

// sends takes and writes what there is, and wants so many messages.
func (q testQueue) sends(want int) {
	q.Helper()
	q.written(len(bytes.Join(q.Take(1<<30, 1000), nil)), want)
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
	if released, err := q.Resume(handled, limit); released != want || err != nil {
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
func (q testQueue) tallies(want udsipc.QueueTally) {
	q.Helper()
	if got := q.Tally(); got != want {
		q.Errorf("counted are %+v, want %+v", got, want)
	}
}

// tally is a QueueTally without redeliveries.
func tally(accepted, refused, sent, dropped, expired, undelivered, queued, bytes, unacknowledged uint64) udsipc.QueueTally {
	return udsipc.QueueTally{
		QueueState: udsipc.QueueState{
			Accepted: accepted, Refused: refused, Sent: sent, Dropped: dropped, Expired: expired,
			Undelivered: undelivered, Queued: queued, QueuedBytes: bytes,
		},
		Unacknowledged: unacknowledged,
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
func frame(message string) string { return string(udsipc.AppendFrame(nil, []byte(message))) }

// sized returns a message whose frame has so many bytes.
func sized(size int) string {
	message := strings.Repeat("x", size)
	for len(frame(message)) > size {
		message = message[1:]
	}
	return message
}
