// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is a deadline that can be changed while others wait for it.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

var (
	// errWriteDeadline is why a wait for room ended.
	errWriteDeadline = fmt.Errorf("%w: the write deadline has passed", os.ErrDeadlineExceeded)

	// errDeadlineChanged is why a wait for room begins anew.
	errDeadlineChanged = errors.New("udsipc: another deadline")
)

// A writeDeadline is a deadline as a context that is replaced whenever it is set. The zero value is no deadline.
type writeDeadline struct {
	mu     sync.Mutex      // Guards what follows.
	ctx    context.Context // nil before it was first needed.
	cancel context.CancelCauseFunc
}

// set ends the contexts of before with errDeadlineChanged. A zero t is no deadline.
func (d *writeDeadline) set(t time.Time) {
	ctx, cancel := context.WithCancelCause(context.Background())
	if !t.IsZero() {
		timed, release := context.WithDeadlineCause(ctx, t, errWriteDeadline)
		ctx = timed
		inner := cancel
		cancel = func(cause error) { inner(cause); release() }
	}
	d.mu.Lock()
	before := d.cancel
	d.ctx, d.cancel = ctx, cancel
	d.mu.Unlock()
	if before != nil {
		before(errDeadlineChanged)
	}
}

// context ends at the deadline, with errWriteDeadline as its cause.
func (d *writeDeadline) context() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx == nil {
		d.ctx, d.cancel = context.WithCancelCause(context.Background())
	}
	return d.ctx
}
