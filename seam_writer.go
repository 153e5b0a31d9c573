// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what package spool needs of a Writer, and users do not.

import (
	"context"
	"fmt"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/seam"
)

func init() {
	seam.NewLineWriter = func(send func(message []byte) error, limit uint64) any { return newLineWriter(send, limit) }
	seam.OfWriter = func(writer any) seam.Writer { return writerSeam{writer.(*Writer)} }
}

// A writerSeam is a Writer with the methods of seam.Writer.
type writerSeam struct{ *Writer }

func (w writerSeam) Keep(k seam.Keeper) {
	w.cfg.events.waiting = k.Waiting
	w.loop.KeepLeft(k.SetAside, k.Contested)
	if k.GoesOn {
		w.publication = nil // It is one of several Writers of a spool.
	}
	if tell := w.cfg.onState; tell != nil && k.GoesOn {
		w.cfg.onState = untilStopped(tell)
	}
}

// untilStopped returns a state callback that tells the last state, stopped, as disconnected.
func untilStopped(tell func(state State, cause error)) func(state State, cause error) {
	last := StateNew
	return func(state State, cause error) {
		if state == StateStopped {
			if last != StateConnecting && last != StateConnected {
				return
			}
			state, cause = StateDisconnected, ErrConnectionClosed
		}
		last = state
		tell(state, cause)
	}
}

func (w writerSeam) PublishAs(kind string, snapshot func() any, gauges ...string) {
	for _, name := range writerGauges {
		gauges = append(gauges, "writer_"+name)
	}
	w.publication.SetSource(kind, snapshot, gauges)
}

func (w writerSeam) StartPublishing() { w.publication.Start() }

func (w writerSeam) WriteFrames(frames []byte, count int) error {
	b, err := queue.BatchOfFrames(frames, count)
	if err != nil {
		return err
	}
	return w.queue.EnqueueBatchWaitAndWake(context.Background(), b)
}

func (w writerSeam) MessageLimit() uint64 { return w.loop.MessageLimit() }

func (w writerSeam) OwnOption() string {
	switch c := &w.cfg; {
	case c.identity != nil:
		return "WithIdentity"
	case c.onHandled != nil:
		return "WithHandled"
	case c.overflowSet:
		return "WithOverflow"
	case c.maxAge != 0:
		return "WithMaxAge"
	case c.maxWritesSet:
		return "WithMaxBufferedWrites"
	case c.maxBufferedBytes != sharedDefaults("").maxBufferedBytes:
		return "WithMaxBufferedBytes"
	}
	return ""
}

func (w writerSeam) Why() error {
	if why := w.loop.Why(); why != nil {
		return asOpError(OpWaitConnected, w.cfg.addrText, fmt.Errorf("%w: %w", ErrNotConnected, why))
	}
	return nil
}

func (w writerSeam) Away() error { return asOpError(OpWaitConnected, w.cfg.addrText, w.loop.Away()) }

func (w writerSeam) CloseContext() (context.Context, context.CancelFunc) { return w.cfg.closeContext() }

func (w writerSeam) WatchStop(ctx context.Context, what func() string) (ended func()) {
	return watchStop(ctx, func(err error) { w.report(OpStop, err) }, what)
}

func (w writerSeam) Report(op, about string, err error) {
	w.counts.errors.Add(1)
	w.cfg.events.report(op, about, err)
}

func (w writerSeam) ReportGone(why seam.Gone, messages uint64, about string, err error) {
	kinds := [...]errdefs.NoteKind{
		seam.Dropped: errdefs.NoteDropped, seam.Expired: errdefs.NoteExpired, seam.Damaged: errdefs.NoteDamaged,
	}
	w.Report(OpSpool, about, &errdefs.Note{Kind: kinds[why], Messages: messages, Err: err})
}

func (w writerSeam) LogKept(messages uint64, about string, why error) {
	w.cfg.events.add(eventKept, messages, &OpError{Op: OpSpool, Addr: about, Err: why})
}

func (w writerSeam) Ended() <-chan struct{} { return w.loop.Ended() }

func (w writerSeam) End(ctx context.Context) {
	_ = w.loop.Stop(ctx)
	w.cfg.events.flush(ctx)
}
