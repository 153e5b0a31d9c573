// SPDX-License-Identifier: Apache-2.0

package sender

// This file has the life cycle that a Loop and a Link share: start, stop, connection state, and the
// pauses between attempts to connect.

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// A State is a connection state. The values are those of udsipc.State.
type State int

const (
	stateNew State = iota
	StateConnecting
	StateConnected
	StateDisconnected
	StateStopped
)

// forcedStopGrace is how long a forced stop waits for the goroutine to account for its current
// write. The goroutine may hang in a callback.
const forcedStopGrace = 20 * time.Millisecond

// A Lifecycle is started once and stopped once, in any order. In between it runs one goroutine.
type Lifecycle struct {
	onState     func(state State, cause error)
	backoff     // The goroutine's own, as the next three.
	outage      outage
	brief       outage // Of a Link: connections that ended right after they began.
	endedOutage Outage

	forceCtx  context.Context // Ends with a forced stop.
	forceStop context.CancelFunc
	ended     chan struct{} // Closed when the goroutine has ended, or by Stop if it was never started.
	stopping  atomic.Bool   // Set under mu.

	mu      sync.Mutex // Guards what follows.
	started bool
	current State
	changed chan struct{} // Closed and replaced whenever current changes.

	lastErr     error // Of the last attempt that failed, or of the last connection.
	failed      bool  // An attempt has failed since the last connection.
	connectedAt time.Time
	awaits      error // What the present attempt waits for, and since when.
	awaitsSince time.Time
}

// NewLifecycle returns a lifecycle that calls onState whenever its state changes. The calls do not
// overlap.
func NewLifecycle(maxBackoff time.Duration, onState func(state State, cause error)) *Lifecycle {
	l := &Lifecycle{
		onState: onState,
		backoff: backoff{limit: maxBackoff},
		ended:   make(chan struct{}),
		changed: make(chan struct{}),
	}
	l.forceCtx, l.forceStop = context.WithCancel(context.Background())
	return l
}

// Start runs run in a new goroutine, once. After Stop it returns ErrStopped.
func (l *Lifecycle) Start(run func()) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.stopping.Load():
		return errdefs.ErrStopped
	case !l.started:
		l.started = true
		go func() { // Ends after Stop: run checks IsStopping and Context. The caller of Stop waits for Done.
			defer close(l.ended)
			defer l.SetState(StateStopped, nil)
			run()
		}()
	}
	return nil
}

// Stop makes IsStopping true. It reports whether the goroutine was started, and thus has to be
// waited for.
func (l *Lifecycle) Stop() (started bool) {
	l.mu.Lock()
	first := !l.stopping.Swap(true)
	started = l.started
	l.mu.Unlock()
	if first && !started {
		defer close(l.ended) // Also if onState calls Goexit.
		l.SetState(StateStopped, nil)
	}
	return started
}

// IsStopping reports whether Stop was called.
func (l *Lifecycle) IsStopping() bool { return l.stopping.Load() }

// Force ends Context, and thus every wait.
func (l *Lifecycle) Force() { l.forceStop() }

// Context returns a context that ends with Force.
func (l *Lifecycle) Context() context.Context { return l.forceCtx }

// Forced reports whether Force was called.
func (l *Lifecycle) Forced() bool { return l.forceCtx.Err() != nil }

// Done returns a channel that is closed when the goroutine has ended.
func (l *Lifecycle) Done() <-chan struct{} { return l.ended }

// AwaitForced waits for the goroutine to end after Force, at most forcedStopGrace. It reports
// whether it has ended.
func (l *Lifecycle) AwaitForced() bool {
	timer := time.NewTimer(forcedStopGrace)
	defer timer.Stop()
	select {
	case <-l.ended:
		return true
	case <-timer.C:
		return false
	}
}

// State returns the state of the connection.
func (l *Lifecycle) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

// SetState publishes a state and calls onState, unless the state is unchanged. Only the goroutine
// calls it, or Stop if there is none.
func (l *Lifecycle) SetState(state State, cause error) {
	l.mu.Lock()
	if l.current == state {
		l.mu.Unlock()
		return
	}
	before := l.current
	l.current = state
	close(l.changed)
	l.changed = make(chan struct{})
	l.noteStateLocked(before, state, cause)
	l.mu.Unlock()
	l.onState(state, cause)
}

// WaitConnected waits until there is a connection. It calls request before each wait; request may
// be nil. The error is ErrStopped after Stop. If ctx ends first, it matches ErrNotConnected, and what Why returns.
func (l *Lifecycle) WaitConnected(ctx context.Context, request func()) error {
	for {
		l.mu.Lock()
		current, changed := l.current, l.changed
		l.mu.Unlock()
		switch current {
		case StateConnected:
			return nil
		case StateStopped:
			return errdefs.ErrStopped
		}
		if request != nil {
			request()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", errdefs.ErrNotConnected, l.Explain(ctx))
		}
	}
}

// WaitAttempt is WaitConnected that gives up when an attempt has failed since the last connection. The
// error then matches ErrNotConnected and the error of the last attempt; before Start it matches
// ErrNotConnected and ErrNotStarted.
func (l *Lifecycle) WaitAttempt(ctx context.Context) error {
	for {
		l.mu.Lock()
		current, changed, started, failed, lastErr := l.current, l.changed, l.started, l.failed, l.lastErr
		l.mu.Unlock()
		switch {
		case current == StateConnected:
			return nil
		case current == StateStopped:
			return errdefs.ErrStopped
		case !started:
			return fmt.Errorf("%w: %w", errdefs.ErrNotConnected, errdefs.ErrNotStarted)
		case failed:
			return fmt.Errorf("%w: %w", errdefs.ErrNotConnected, lastErr)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", errdefs.ErrNotConnected, l.Explain(ctx))
		}
	}
}

// Pause waits for the backoff delay before the next attempt to connect. It calls finished first,
// and whenever wake receives. If finished returns true, Pause returns ErrStopped.
func (l *Lifecycle) Pause(wake <-chan struct{}, finished func() bool) error {
	delay := l.delay()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	for !finished() {
		if delay == 0 {
			return nil
		}
		select {
		case <-timer.C:
			return nil
		case <-wake:
		case <-l.forceCtx.Done():
		}
	}
	return errdefs.ErrStopped
}
