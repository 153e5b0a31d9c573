// SPDX-License-Identifier: Apache-2.0

package spool

// This file is the Writer below: one for each run of numbers of an identity. It reconnects by itself.

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/journal"
	"github.com/udsipc/udsipc/internal/seam"
	"github.com/udsipc/udsipc/internal/segment"
)

// A session is a Writer with the identity and the numbers of the log. The goroutine of the delivery has
// it; the Writer calls onHandled and onSetAside.
type session struct {
	writer *udsipc.Writer
	seam   seam.Writer
	id     segment.WriterID
	open   bool     // A reader has welcomed it.
	next   uint64   // Number of the next message to give; valid if it is open.
	flight []flight // What was given and is not handled, oldest first.
	bytes  int      // Of all flights.
	told   uint64   // The last number of news.
	sent   uint64   // Of its Identity.
	gave   bool     // A message was given to the Writer.

	ended     <-chan struct{} // Closed when the Writer sends nothing any more: a callback has ended its goroutine.
	wakeUp    func()          // Wakes the delivery.
	ctx       context.Context // Ends when it is contested, and with the delivery.
	cancel    context.CancelFunc
	handled   atomic.Uint64 // All messages up to this number are handled or given up.
	setAside  atomic.Uint64 // Messages that the reader refuses, and that are not counted yet.
	contested atomic.Bool   // Another process has the identity.
}

// A flight is one or several pieces that were given to the Writer.
type flight struct {
	last  uint64 // Number of the last message.
	bytes int
}

// smallFlight is the size in bytes up to which a flight takes another piece.
const smallFlight = 16 << 10

// newSession makes the session in which batch is the first to be sent, or gives up its identity.
func (d *delivery) newSession(batch journal.Batch) error {
	id := d.former
	if id.Writer != udsipc.WriterID(batch.Writer) {
		id = udsipc.Identity{Writer: udsipc.WriterID(batch.Writer),
			Attempt: min(uint64(d.start.Starts), math.MaxInt32)<<32 | 1}
		d.takesOver = false // What was contested is gone.
	}
	if id.Attempt > math.MaxInt64 { // The reader knows of the last one that there is.
		return d.giveUp(batch.Writer, 0)
	}
	id.First = batch.First
	if d.welcomed != batch.Writer {
		// A reader without memory must not seem to know of messages that are damaged before the batch.
		id.First = min(id.First, d.log.Unhandled(batch.Writer))
	}
	id.Sent = max(id.Sent, id.First-1, d.log.SentBefore(batch.Writer))
	s := &session{id: batch.Writer, sent: id.Sent, wakeUp: d.wakeUp}
	s.ctx, s.cancel = context.WithCancel(d.ctx)
	var err error
	s.writer, err = udsipc.NewWriter(d.address, d.cfg.writerOptions(
		udsipc.WithAcknowledgements(), udsipc.WithIdentity(id), udsipc.WithHandled(s.onHandled),
		udsipc.WithOverflow(udsipc.OverflowBlock), // It never waits: inFlight is the bound.
		udsipc.WithMaxBufferedWrites(math.MaxUint32), udsipc.WithMaxBufferedBytes(math.MaxInt64),
	)...)
	if err != nil {
		s.cancel()
		return err
	}
	s.seam = seam.OfWriter(s.writer)
	s.ended = s.seam.Ended()
	s.seam.Keep(seam.Keeper{Waiting: d.waiting, SetAside: s.onSetAside, Contested: s.onContested, GoesOn: true})
	if err = s.writer.Start(); err != nil {
		s.cancel()
		return err
	}
	d.session = s
	d.current.Store(s)
	return nil
}

// openSession brings the delivery nearer to a session in which batch is next. It may take several calls.
func (d *delivery) openSession(batch journal.Batch) {
	if s := d.session; s != nil && (s.open || s.id != batch.Writer) {
		for len(s.flight) > 0 {
			if !d.awaitNews() {
				return
			}
		}
		d.endSession()
	}
	if d.session == nil {
		if err := d.newSession(batch); err != nil {
			d.report(err)
			d.pause(retryAfter)
		}
	}
	if d.session != nil {
		d.connect()
	}
}

// connect waits for a connection and asks what the reader has handled. It may return without a connection, so that
// the log is read again: messages may have left it.
func (d *delivery) connect() {
	s := d.session
	for began := time.Now(); !d.awaitConnected(s); d.reportNotes() {
		if d.yield() || !d.wasted || !d.notes.pending.Load() || time.Since(began) >= retryAfter {
			return
		}
	}
	number, known := s.writer.Handled()
	if !known {
		return
	}
	if err := d.welcome(s, number); err != nil {
		d.report(err)
		d.pause(retryAfter)
	}
}

// awaitConnected waits for a connection, or for something to report.
func (d *delivery) awaitConnected(s *session) bool {
	ctx, cancel := d.notes.wait(s.ctx)
	defer cancel()
	if d.cfg.maxAge > 0 { // Meanwhile messages expire.
		ctx, cancel = context.WithTimeout(ctx, retryAfter)
		defer cancel()
	}
	return s.writer.WaitConnected(ctx) == nil
}

// yield ends a session whose Writer has ended or is stale, or whose identity another process has as well: then the
// next session asks the reader what it has handled, and gives up the identity. It returns whether it did.
func (d *delivery) yield() bool {
	if s := d.session; s == nil || !s.contested.Load() && !s.hasEnded() && !d.isStale() {
		return false
	}
	d.endSession()
	d.pause(yieldPause)
	return true
}

// isStale reports whether the Writer has messages that have expired or were dropped, and no connection. They must not
// be sent when the reader is back, maybe after days.
func (d *delivery) isStale() bool {
	s := d.session
	return (d.cfg.maxAge > 0 || d.cfg.overflow == udsipc.OverflowDropOldest) && len(s.flight) > 0 &&
		s.seam.Why() != nil && d.log.Unhandled(s.id) > s.told+1
}

// yieldPause keeps two processes with one identity from refusing each other in a hot loop, and a callback that ends
// each goroutine from another one.
const yieldPause = 100 * time.Millisecond

// welcome tells the log what a reader has handled before the first message of a session.
func (d *delivery) welcome(s *session, number uint64) error {
	renewed, err := false, error(nil)
	switch {
	case d.takesOver, d.welcomed == s.id && number > s.sent: // It has messages of another process.
		return d.giveUp(s.id, number)
	case d.welcomed != s.id:
		renewed, err = d.log.Welcomed(s.id, number)
	default:
		err = d.log.Handled(s.id, number, 0)
	}
	if err != nil {
		return err
	}
	if renewed {
		d.reportRenewed(s.id, number)
		d.endSession()
		return nil
	}
	d.welcomed = s.id
	s.open, s.next, s.told = true, number+1, number
	return nil
}

// giveUp gives up an identity that another process has as well. number is what the reader has handled of both.
func (d *delivery) giveUp(id segment.WriterID, number uint64) error {
	if err := d.log.GiveUp(id, number); err != nil {
		return err
	}
	d.takesOver = false
	d.reportRenewed(id, number)
	d.endSession()
	return nil
}

// endSession ends the Writer below. If messages are with it, they are sent again by the next session.
func (d *delivery) endSession() {
	s := d.session
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(d.ctx, endTimeout)
	defer cancel()
	if len(s.flight) > 0 {
		cancel() // Nothing that is left may be sent beside the next session.
	}
	s.seam.End(ctx)
	s.cancel()
	if s.open {
		d.release()
	}
	d.former, d.session, d.wasted = s.writer.Identity(), nil, s.open && !s.gave
	if s.contested.Load() && d.former.Attempt < math.MaxInt64 {
		// Half of the attempts that are left: whoever is refused in turn needs few.
		d.former.Attempt += max(1, (math.MaxInt64-d.former.Attempt)/2)
	}
	d.takesOver = d.takesOver || s.contested.Load()
}

// endTimeout is how long the end of a Writer without messages may take.
const endTimeout = time.Second

// hasEnded reports whether the Writer has ended by itself.
func (s *session) hasEnded() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// isOver reports whether the session is to be ended.
func (s *session) isOver() bool { return s.ctx.Err() != nil || s.hasEnded() }

// give passes frames to the Writer.
func (s *session) give(frames []byte, count int) error {
	if err := s.seam.WriteFrames(frames, count); err != nil {
		return err
	}
	s.gave, s.next = true, s.next+uint64(count)
	s.bytes += len(frames)
	if n := len(s.flight); n > 0 && s.flight[n-1].bytes+len(frames) <= smallFlight {
		s.flight[n-1] = flight{s.next - 1, s.flight[n-1].bytes + len(frames)}
	} else {
		s.flight = append(s.flight, flight{s.next - 1, len(frames)})
	}
	return nil
}

// news returns up to which number all is handled, and how many of these messages the reader has refused,
// if that has changed.
func (s *session) news() (number, undelivered uint64, changed bool) {
	number = s.handled.Load()
	if number <= s.told {
		return 0, 0, false
	}
	s.told = number
	gone := 0
	for gone < len(s.flight) && s.flight[gone].last <= number {
		s.bytes -= s.flight[gone].bytes
		gone++
	}
	s.flight = s.flight[gone:]
	return number, s.setAside.Swap(0), true
}

// onHandled is called by the Writer.
func (s *session) onHandled(number uint64) {
	s.handled.Store(number)
	s.wakeUp()
}

// onContested is called by the Writer. It has called onHandled for what it was told before.
func (s *session) onContested() {
	s.contested.Store(true)
	s.cancel()
	s.wakeUp()
}

// onSetAside is called by the Writer, before onHandled has the number of the message.
func (s *session) onSetAside() { s.setAside.Add(1) }
