// SPDX-License-Identifier: Apache-2.0

package queue

// This file saves the copy of a large message, or makes it while the connection is busy. A producer
// that may wait lends its memory to the queue until the connection has taken the message. It does
// not wait long: when the connection ends or is slow, or the context of the producer ends, the
// producer puts a copy in the place of its memory and goes on.

import (
	"sync/atomic"
	"time"

	"github.com/udsipc/udsipc/internal/buffers"
	"github.com/udsipc/udsipc/internal/wire"
)

// A loan is a message in the memory of the producer that waits for it.
type loan struct {
	header [wire.MaxPrefixSize]byte
	prefix []byte // The used part of header.
	data   []byte
	back   chan struct{} // One slot: the end of lent.

	recalled bool        // The producer's own: it has made copied.
	timer    *time.Timer // The producer's own.

	lent    bool            // Until the queue does not use data any more. Guarded by the queue's mutex, like the rest.
	written bool            // The connection has taken the message; it may still be needed again.
	seen    uint64          // The progress of the connection at the last look.
	copied  *buffers.Buffer // The whole frame, to take the place of prefix and data; nil before recall, and when it has.
}

// A lender is the state of all loans of a queue.
type lender struct {
	interrupt func() // Interrupts a write that waits. nil: no loans.
	spare     chan *loan
	lent      int          // Loans that have not ended.
	long      atomic.Int32 // Loans in a row that were long.
	skip      int          // Large messages that are copied next, because a loan took long.
	recalls   int          // Loans with a copy that has not taken their place.
	inWrite   []*loan      // Loans that have left the queue, and may be in a write that has not returned.
}

// maxSpareLoans is how many loans a queue keeps for reuse: as many as it has while producers are
// paced.
const maxSpareLoans = pacedBytes / ChunkSize

// minKeptLoan is the largest frame that is copied at once, and not lent, if it has to be kept until it is
// acknowledged. Above that, to write from the producer's memory and to copy meanwhile saves a fifth.
const minKeptLoan = 256 << 10

// A loan that lasts longer than that keeps its producer from work that it could do while a copy
// waits. The next messages are copied.
const (
	longLoan     = time.Millisecond
	longLoanRate = 1 << 30 // Bytes a second, which a loan may take beyond longLoan.
	longLoans    = 2       // In a row; one may be the scheduler's fault.
	copiesAfter  = 16
)

// StartLoans lets producers that may wait lend their memory to the present connection. interrupt
// must have a write that waits return soon. The connection must not use the memory after a write
// has returned.
func (q *Queue) StartLoans(interrupt func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dropOldest || q.maxAge > 0 || q.shared != nil { // The message must be movable.
		return
	}
	if q.loans.spare == nil {
		q.loans.spare = make(chan *loan, maxSpareLoans)
	}
	q.loans.interrupt = interrupt
}

// StopLoans is called when the connection ends.
func (q *Queue) StopLoans() {
	q.mu.Lock()
	q.loans.interrupt = nil
	q.mu.Unlock()
}

// takesLoanLocked reports whether a frame of size bytes should be lent. A smaller one shares a
// chunk with others.
func (q *Queue) takesLoanLocked(size int) bool {
	if size <= ChunkSize || q.acks && size <= minKeptLoan || !q.pacing.active || q.loans.interrupt == nil || q.closed ||
		q.resumed.sentBefore > 0 {
		return false
	}
	if q.loans.skip > 0 {
		q.loans.skip--
		return false
	}
	return true
}

// lendAndUnlock puts a message, which fits, at the end of the queue without copying it, unlocks the
// queue, and waits until it does not use data any more. It returns the number of the message.
func (q *Queue) lendAndUnlock(waits wait, data []byte, size int) (number uint64) {
	var l *loan
	select {
	case l = <-q.loans.spare:
	default:
		l = &loan{back: make(chan struct{}, 1), timer: time.NewTimer(time.Hour)}
	}
	l.data, l.prefix, l.lent, l.seen = data, wire.AppendPrefix(l.header[:0], len(data)), true, q.pacing.progress
	l.written = false
	q.loans.lent++
	q.counts.Accepted++
	number = q.counts.Accepted
	q.largest = max(q.largest, uint64(len(data)))
	q.waiting.add(segment{loan: l, to: size, count: 1, first: number, queuedAt: time.Since(q.startTime)})
	q.open = false
	idle := q.senderIdle
	q.senderIdle = false
	turn := q.takesTurnLocked(1)
	if turn {
		q.turns.own = l
	} else if time.Since(q.startTime)-q.pacing.takenAt < turnGap {
		q.turns.wanted = turnWaits
	}
	q.mu.Unlock()
	if turn {
		q.turns.write(waits.done)
	}
	if idle {
		q.Signal()
	}
	q.awaitLoan(waits.done, l)
	return number
}

// awaitLoan waits for the end of l. That is soon.
func (q *Queue) awaitLoan(done <-chan struct{}, l *loan) {
	select {
	case <-l.back: // This producer has written it.
	default:
		if q.acks { // The message may be needed again: it is copied while the connection is busy with it.
			q.recall(l, false)
		}
		q.awaitOthers(done, l)
	}
	buffers.Put(l.copied) // Not nil if it was not needed after all.
	l.data, l.copied, l.recalled = nil, nil, false
	select {
	case q.loans.spare <- l:
	default:
	}
}

// awaitOthers waits until another goroutine has written l, or does not need it any more.
func (q *Queue) awaitOthers(done <-chan struct{}, l *loan) {
	began := time.Now()
	l.timer.Reset(slowAfter)
	for {
		select {
		case <-l.back:
			l.timer.Stop()
			q.noteLoan(time.Since(began) > longLoan+time.Duration(len(l.data))*time.Second/longLoanRate)
			return
		case <-l.timer.C:
			l.timer.Reset(slowAfter)
			if q.isSlow(l) {
				q.recall(l, true)
			}
		case <-done:
			done = nil
			q.recall(l, true)
		}
	}
}

// noteLoan has the next large messages copied after longLoans loans in a row were long.
func (q *Queue) noteLoan(long bool) {
	if !long {
		q.loans.long.Store(0)
	} else if q.loans.long.Add(1) >= longLoans {
		q.mu.Lock()
		q.loans.skip = copiesAfter
		q.mu.Unlock()
	}
}

// isSlow reports whether the connection has taken nothing since the last call.
func (q *Queue) isSlow(l *loan) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	seen := l.seen
	l.seen = q.pacing.progress
	if l.seen != seen {
		return false
	}
	q.stopPacingLocked() // Nothing more is lent until the connection is fast again.
	return true
}

// recall has a copy put in the place of the memory that is lent, as soon as no write uses it. urgent
// interrupts a write that waits.
func (q *Queue) recall(l *loan, urgent bool) {
	var own *buffers.Buffer
	if !l.recalled {
		l.recalled = true
		own = buffers.Get(len(l.prefix) + len(l.data))
		wire.AppendFrame(own.B[:0], l.data)
	}
	q.mu.Lock()
	if l.lent && own != nil {
		l.copied, own = own, nil
		q.loans.recalls++
	}
	q.settleLoansLocked()
	interrupt, pending := q.loans.interrupt, l.lent
	q.mu.Unlock()
	buffers.Put(own)
	if urgent && pending && interrupt != nil {
		interrupt()
	}
}

// settleLoansLocked puts copies in the place of the loans that were recalled and are not in a
// write.
func (q *Queue) settleLoansLocked() {
	for _, list := range [...]*segmentList{&q.front, &q.waiting} {
		for i := range list.segs {
			if q.loans.recalls == 0 {
				return
			}
			seg := &list.segs[i]
			if inWrite := list == &q.front && i >= q.next && i < q.taken; seg.loan != nil && !inWrite {
				q.settleLocked(seg)
			}
		}
	}
}

// settleLocked puts the copy of a loan in its place, if there is one.
func (q *Queue) settleLocked(seg *segment) {
	l := seg.loan
	if l.copied == nil {
		return
	}
	seg.chunk, seg.loan = l.copied, nil
	seg.chunk.Refs++
	l.copied = nil
	q.loans.recalls--
	q.returnLoanLocked(l)
}

// copyLoanLocked puts a copy in the place of a loan that is not in a write.
func (q *Queue) copyLoanLocked(seg *segment) {
	l := seg.loan
	if l.copied == nil {
		l.copied = buffers.Get(seg.to)
		wire.AppendFrame(l.copied.B[:0], l.data)
		q.loans.recalls++
	}
	q.settleLocked(seg)
}

// returnLoanLocked ends a loan that no write uses.
func (q *Queue) returnLoanLocked(l *loan) {
	if l.copied != nil {
		q.loans.recalls--
	}
	l.lent = false
	q.loans.lent--
	l.back <- struct{}{}
}

// takeLoansLocked ends all loans at the end of the queue: what is left has memory of its own. Those
// that a write may use are returned after it.
func (q *Queue) takeLoansLocked() {
	for _, list := range [...]*segmentList{&q.front, &q.waiting} {
		for i := range list.segs {
			seg := &list.segs[i]
			l := seg.loan
			if l == nil {
				continue
			}
			seg.loan, seg.chunk = nil, &buffers.Buffer{B: wire.AppendFrame(nil, l.data)}
			if list == &q.front && i >= q.next && i < q.taken {
				q.loans.inWrite = append(q.loans.inWrite, l)
			} else {
				q.returnLoanLocked(l)
			}
		}
	}
}

// returnWrittenLoansLocked is called when a write has returned.
func (q *Queue) returnWrittenLoansLocked() {
	for _, l := range q.loans.inWrite {
		q.returnLoanLocked(l)
	}
	q.loans.inWrite = nil
}
