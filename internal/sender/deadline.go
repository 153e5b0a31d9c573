// SPDX-License-Identifier: Apache-2.0

package sender

// This file has a deadline that can be changed while goroutines wait for it.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

var (
	// errWriteDeadline is the cause when the deadline ended a wait for room.
	errWriteDeadline = fmt.Errorf("%w: the write deadline has passed", os.ErrDeadlineExceeded)

	// ErrDeadlineChanged is the cause when a new deadline ended a wait for room; the wait then
	// begins again.
	ErrDeadlineChanged = errors.New("udsipc: another deadline")
)

// A Deadline provides a context that ends at the deadline. Set replaces the context. The zero value
// has no deadline.
type Deadline struct {
	mu     sync.Mutex      // Guards what follows.
	ctx    context.Context // nil before the first call of Context.
	cancel context.CancelCauseFunc
}

// Set replaces the deadline. Earlier contexts end with ErrDeadlineChanged. A zero t means no
// deadline.
func (d *Deadline) Set(t time.Time) {
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
		before(ErrDeadlineChanged)
	}
}

// Context returns a context that ends at the deadline, with errWriteDeadline as its cause.
func (d *Deadline) Context() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx == nil {
		d.ctx, d.cancel = context.WithCancelCause(context.Background())
	}
	return d.ctx
}
