// SPDX-License-Identifier: Apache-2.0

package spool

// This file reads the log and sends what is in it. session.go has the Writer below.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/journal"
	"github.com/udsipc/udsipc/internal/seam"
	"github.com/udsipc/udsipc/internal/segment"
	"github.com/udsipc/udsipc/internal/wire"
)

const (
	inFlight = 4 << 20   // Bytes that are with the Writer below, or one message that is larger.
	piece    = 256 << 10 // Bytes that are given to it at once.

	retryAfter = time.Second // After an error of the disk. How often expired messages are looked for.
)

// A delivery sends the messages of a log. Its goroutine alone reads the log and tells it what is
// handled.
type delivery struct {
	dir, address string
	cfg          *config
	face         seam.Writer // For reports, and for what the options say. Its Writer is never started.
	log          *journal.Log
	start        journal.Start

	wake    chan struct{} // One slot: the session has news.
	drain   chan struct{} // Closed when no message comes any more.
	done    chan struct{} // Closed when run has returned.
	ctx     context.Context
	force   context.CancelCauseFunc
	current atomic.Pointer[session] // The last session, for other goroutines.
	notes   notebook

	callbacks atomic.Uint64 // Odd while the delivery, or the end of the Writer, may be in a callback of the program.

	// Of the goroutine.
	session  *session
	welcomed segment.WriterID // The last identity that a reader has welcomed.
	former   udsipc.Identity  // What the last session leaves to the next one.
	// The next session asks for what is handled, and gives up the identity: another process has it as well.
	takesOver bool
	wasted    bool // The last session was opened for messages that had left the log by then.
}

// newDelivery checks the options of the Writer below.
func newDelivery(dir, address string, cfg *config) (*delivery, error) {
	d := &delivery{dir: dir, address: address, cfg: cfg,
		wake: make(chan struct{}, 1), drain: make(chan struct{}), done: make(chan struct{})}
	d.ctx, d.force = context.WithCancelCause(context.Background())
	writer, err := udsipc.NewWriter(address, cfg.writerOptions(udsipc.WithAcknowledgements())...)
	if err != nil {
		return nil, err
	}
	d.face = seam.OfWriter(writer)
	if name := d.face.OwnOption(); name != "" {
		return nil, fmt.Errorf("udsipc: WithWriter(%s): the queue and the numbers of a spool are its own", name)
	}
	d.face.Keep(seam.Keeper{Waiting: d.waiting, SetAside: func() {}})
	return d, nil
}

// use sets the log. It is called before all else.
func (d *delivery) use(log *journal.Log, start journal.Start) { d.log, d.start = log, start }

// waiting returns how many messages are on the disk and not handled.
func (d *delivery) waiting() uint64 {
	if d.log == nil {
		return 0
	}
	return d.log.Counts().Messages
}

// messageLimit returns the size of the largest message that may be delivered, and whether that is the
// limit of this side.
func (d *delivery) messageLimit() (limit uint64, own bool) {
	limit = d.face.MessageLimit()
	if s := d.current.Load(); s != nil {
		if readers := s.seam.MessageLimit(); readers < limit {
			return readers, false
		}
	}
	return limit, true
}

// run sends until all is handled once drain is closed, or ctx ends.
func (d *delivery) run() {
	ended := false
	defer func() {
		if ended {
			close(d.done)
			return
		}
		d.log.Rewind() // A callback has called Goexit. The messages are on the disk, and have to go out.
		go d.run()
	}()
	d.send()
	d.endSession()
	d.reportNotes()
	ended = true
}

// send is run but for its end.
func (d *delivery) send() {
	for d.ctx.Err() == nil {
		d.reportNotes()
		d.release()
		if d.yield() {
			d.log.Rewind()
		}
		batch, err := d.log.Next()
		switch {
		case err == nil:
			d.deliver(batch)
		case err != io.EOF:
			d.report(err)
			d.pause(retryAfter)
		case d.drained():
			return
		default:
			d.await(d.log.Arrived())
		}
	}
}

// drained reports whether all is handled and nothing comes any more.
func (d *delivery) drained() bool {
	select {
	case <-d.drain:
		return d.waiting() == 0
	default:
		return false
	}
}

// await waits for more to read, for news of the session, for the time to look for expired messages,
// or for the end.
func (d *delivery) await(arrived <-chan struct{}) {
	var expiry <-chan time.Time
	if d.cfg.maxAge > 0 {
		timer := time.NewTimer(retryAfter)
		defer timer.Stop()
		expiry = timer.C
	}
	drain, ended := d.drain, (<-chan struct{})(nil)
	select {
	case <-drain:
		drain = nil // What is left is news of the session.
	default:
	}
	if d.session != nil {
		ended = d.session.ended
	}
	select {
	case <-arrived:
	case <-d.wake:
	case <-drain:
	case <-ended:
	case <-expiry:
		d.log.Expire()
	case <-d.ctx.Done():
	}
}

// awaitNews waits until the session has news and tells the log. It returns false at the end.
func (d *delivery) awaitNews() bool {
	d.await(nil)
	d.reportNotes()
	d.release()
	return !d.session.isOver() && !d.isStale()
}

// pause waits for a time, or for the end.
func (d *delivery) pause(t time.Duration) {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-d.ctx.Done():
	}
}

// deliver gives a batch to the Writer below, a piece at a time. Where the identity changes or the
// numbers jump, it opens a session first, and the batch is read again: the reader may know of it.
func (d *delivery) deliver(batch journal.Batch) {
	if !d.takes(batch) {
		// The reader may know of it, or it may be dropped by now. But a spool that drops faster than sessions open must
		// send something.
		if d.openSession(batch); !d.wasted || !d.takes(batch) {
			d.log.Rewind()
			return
		}
	}
	s := d.session
	for batch.Count > 0 {
		frames, count := firstFrames(batch.Frames, batch.Count)
		for s.bytes > 0 && s.bytes+len(frames) > inFlight {
			if !d.awaitNews() {
				return
			}
		}
		if err := s.give(frames, count); err != nil {
			if !s.isOver() {
				d.report(err)
				d.endSession()
				d.log.Rewind()
			}
			return
		}
		batch.Frames, batch.Count = batch.Frames[len(frames):], batch.Count-count
	}
}

// takes reports whether batch is what the session sends next.
func (d *delivery) takes(batch journal.Batch) bool {
	s := d.session
	return s != nil && s.open && s.id == batch.Writer && s.next == batch.First
}

// firstFrames returns as many whole frames as make a piece, at least one.
func firstFrames(frames []byte, count int) (first []byte, n int) {
	if len(frames) <= piece {
		return frames, count
	}
	n, size := wire.WholeFrames(frames[:piece])
	if n == 0 {
		n, size = 1, wire.FramesSize(frames, 1)
	}
	return frames[:size], n
}

// release tells the log what is handled.
func (d *delivery) release() {
	s := d.session
	if s == nil {
		return
	}
	number, undelivered, news := s.news()
	if !news {
		return
	}
	if err := d.log.Handled(s.id, number, undelivered); err != nil {
		d.report(err)
	}
}

// reportRenewed reports that the identity was given up.
func (d *delivery) reportRenewed(id segment.WriterID, number uint64) {
	d.report(fmt.Errorf("%w: the reader knows writer %v from another copy of this spool, up to message %d "+
		"(was a backup restored, or a directory copied?); what is not handled gets another Delivery.Writer",
		ErrIdentity, udsipc.WriterID(id), number))
}

// away returns why there is no reader, or nil if there is one, or nobody knows yet.
func (d *delivery) away() error {
	if s := d.current.Load(); s != nil {
		if why := s.seam.Away(); why != nil {
			return &absence{why}
		}
	}
	return nil
}

// endOf is the error of a wait that ctx has ended.
func (d *delivery) endOf(ctx context.Context) error {
	err := seam.EndOf(ctx)
	if s := d.current.Load(); s != nil {
		if why := s.seam.Why(); why != nil && !errors.Is(err, why) {
			return fmt.Errorf("%w: %w", err, &absence{why})
		}
	}
	return err
}
