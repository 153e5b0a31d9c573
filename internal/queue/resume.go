// SPDX-License-Identifier: Apache-2.0

package queue

// This file has a queue that goes on where that of an earlier process has ended. Its messages have
// numbers already, and some of them may have been sent.

// A resumption is what a queue knows of an earlier process.
type resumption struct {
	numbered bool // Messages are numbered in the order in which they are accepted: one that is given up keeps its number.
	// Messages that an earlier process may have sent, and that are not accepted yet. They are never
	// dropped: the reader may have handled them.
	sentBefore uint64
	welcomed   bool // A reader has told what it has handled.
}

// resume makes first the number of the first message. Messages up to sent may have been sent.
func (q *Queue) resume(first, sent uint64) {
	q.resumed.numbered = true
	q.seq = sequence{Acked: first - 1, sent: first - 1, HighestSent: max(sent, first-1)}
	q.resumed.sentBefore = q.seq.HighestSent - q.seq.Acked
}

// resumeAfterLocked makes handled+1 the number of the first message, if no message was accepted and no
// reader has told before what it has handled: then nobody has relied on another number.
func (q *Queue) resumeAfterLocked(handled uint64) {
	r := &q.resumed
	if !r.numbered || r.welcomed || q.counts.Accepted+q.reserved > 0 || handled < q.seq.Acked {
		return
	}
	q.seq = sequence{Acked: handled, sent: handled, HighestSent: max(q.seq.HighestSent, handled)}
	r.sentBefore = q.seq.HighestSent - handled
}

// keepSentBeforeLocked moves the only segment of waiting, which has count messages, to front, as if a
// connection of this process had taken it.
func (q *Queue) keepSentBeforeLocked(count uint64) {
	q.resumed.sentBefore -= min(q.resumed.sentBefore, count)
	q.moveToFrontLocked()
}

// Handled returns the number up to which all messages were handled or given up. known is false before
// the first welcome.
func (q *Queue) Handled() (number uint64, known bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.seq.Acked, q.resumed.welcomed
}
