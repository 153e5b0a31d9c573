// SPDX-License-Identifier: Apache-2.0

package sender

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

	// ErrDeadlineChanged is why a wait for room begins anew.
	ErrDeadlineChanged = errors.New("udsipc: another deadline")
)

// A Deadline is a deadline as a context that is replaced whenever it is set. The zero value is no deadline.
type Deadline struct {
	mu     sync.Mutex      // Guards what follows.
	ctx    context.Context // nil before it was first needed.
	cancel context.CancelCauseFunc
}

// Set replaces the deadline: earlier contexts end with ErrDeadlineChanged. A zero t is no deadline.
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
