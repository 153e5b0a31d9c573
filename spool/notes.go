// SPDX-License-Identifier: Apache-2.0

package spool

// This file is what the log tells while it holds its locks. The delivery reports it, so that a callback may write
// to the Writer.

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/journal"
	"github.com/udsipc/udsipc/internal/seam"
)

// A notebook has what is not reported yet.
type notebook struct {
	pending atomic.Bool // Whether there is anything.

	mu               sync.Mutex // Guards what follows.
	damage           []journal.Damage
	failure          error
	dropped, expired uint64
	interrupt        context.CancelFunc // Ends the wait of the delivery; may be nil.
}

// note changes the notebook and wakes the delivery.
func (n *notebook) note(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
	n.pending.Store(true)
	if n.interrupt != nil {
		n.interrupt()
	}
}

// wait returns a context that ends with ctx or when something is noted.
func (n *notebook) wait(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.interrupt = cancel; n.pending.Load() {
		cancel()
	}
	return ctx, cancel
}

// take returns what is noted, and forgets it.
func (n *notebook) take() (damage []journal.Damage, dropped, expired uint64, failure error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	damage, failure, dropped, expired = n.damage, n.failure, n.dropped, n.expired
	n.damage, n.failure, n.dropped, n.expired, n.interrupt = nil, nil, 0, 0, nil
	n.pending.Store(false)
	return damage, dropped, expired, failure
}

// noteDamage, noteFailure and noteGone are called by the log.
func (d *delivery) noteDamage(found journal.Damage) {
	d.notes.note(func() { d.notes.damage = append(d.notes.damage, found) })
	d.wakeUp()
}

func (d *delivery) noteFailure(err error) {
	d.notes.note(func() { d.notes.failure = err })
	d.wakeUp()
}

func (d *delivery) noteGone(messages uint64, expired bool) {
	d.notes.note(func() {
		if expired {
			d.notes.expired += messages
		} else {
			d.notes.dropped += messages
		}
	})
	d.wakeUp()
}

// wakeUp ends the present wait of the delivery.
func (d *delivery) wakeUp() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// reportNotes reports what the log has told.
func (d *delivery) reportNotes() {
	if !d.notes.pending.Load() {
		return
	}
	defer d.callback()()
	damage, dropped, expired, failure := d.notes.take()
	for _, found := range damage {
		d.reportDamage(found)
	}
	if failure != nil {
		d.face.Report(udsipc.OpSpool, d.dir, failure)
	}
	if dropped > 0 {
		d.face.ReportGone(seam.Dropped, dropped, d.dir,
			fmt.Errorf("%w: %d messages were dropped (WithMaxBytes, WithMinFree)", ErrSpoolFull, dropped))
	}
	if expired > 0 {
		d.face.ReportGone(seam.Expired, expired, d.dir, fmt.Errorf("%d messages have expired (WithMaxAge)", expired))
	}
}

// report passes an error to the callback and the logger.
func (d *delivery) report(err error) {
	defer d.callback()()
	d.face.Report(udsipc.OpSpool, d.dir, err)
}

// callback notes that a callback of the program may be called, until over is called.
func (d *delivery) callback() (over func()) {
	d.callbacks.Add(1)
	return func() { d.callbacks.Add(1) }
}

// reportDamage reports what could not be read.
func (d *delivery) reportDamage(found journal.Damage) {
	err := &DamageError{File: found.Name, Writer: udsipc.WriterID(found.Writer), From: found.From, To: found.To,
		Bytes: found.Bytes, Err: found.Err}
	d.face.ReportGone(seam.Damaged, found.To-found.From, d.dir, err)
}
