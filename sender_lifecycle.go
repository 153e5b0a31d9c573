// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the life of what connects again and again: start, stop, the state in between, and the waits
// between attempts to connect.

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A state is what the connection is doing. The numbers are those of State.
type state int

const (
	stateNew state = iota
	stateConnecting
	stateConnected
	stateDisconnected
	stateStopped
)

// forcedStopGrace is how long a forced stop waits for the goroutine to account for the write that is in
// progress. It may be stuck in a callback.
const forcedStopGrace = 20 * time.Millisecond

// A lifecycle is started once and stopped once, in any order, and runs one goroutine between the two.
type lifecycle struct {
	onState func(state state, cause error)
	backoff // The goroutine's own.

	forceCtx  context.Context // Ends with a forced stop.
	forceStop context.CancelFunc
	ended     chan struct{} // Closed when the goroutine has ended, or was never started.
	stopping  atomic.Bool   // Set under mu.

	mu      sync.Mutex // Guards what follows.
	started bool
	current state
	changed chan struct{} // Closed and replaced whenever current changes.
}

// newLifecycle returns a lifecycle that calls onState, one call after the other, whenever its state changes.
func newLifecycle(maxBackoff time.Duration, onState func(state state, cause error)) *lifecycle {
	l := &lifecycle{
		onState: onState,
		backoff: backoff{limit: maxBackoff},
		ended:   make(chan struct{}),
		changed: make(chan struct{}),
	}
	l.forceCtx, l.forceStop = context.WithCancel(context.Background())
	return l
}

// start has run called by a goroutine of its own, once. After stop it returns errStopped.
func (l *lifecycle) start(run func()) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.stopping.Load():
		return errStopped
	case !l.started:
		l.started = true
		go func() { // Ends after stop: run looks at isStopping and context.
			defer close(l.ended)
			defer l.setState(stateStopped, nil)
			run()
		}()
	}
	return nil
}

// stop makes isStopping true. It reports whether the goroutine was started: only then there is something to wait for.
func (l *lifecycle) stop() (started bool) {
	l.mu.Lock()
	first := !l.stopping.Swap(true)
	started = l.started
	l.mu.Unlock()
	if first && !started {
		l.setState(stateStopped, nil)
		close(l.ended)
	}
	return started
}

// isStopping reports whether stop was called.
func (l *lifecycle) isStopping() bool { return l.stopping.Load() }

// force ends context, and with it whatever hangs.
func (l *lifecycle) force() { l.forceStop() }

// context ends with force.
func (l *lifecycle) context() context.Context { return l.forceCtx }

// forced reports whether force was called.
func (l *lifecycle) forced() bool { return l.forceCtx.Err() != nil }

// done returns a channel that is closed when the goroutine has ended.
func (l *lifecycle) done() <-chan struct{} { return l.ended }

// awaitForced waits a moment for the goroutine to end after force. It reports whether it has.
func (l *lifecycle) awaitForced() bool {
	timer := time.NewTimer(forcedStopGrace)
	defer timer.Stop()
	select {
	case <-l.ended:
		return true
	case <-timer.C:
		return false
	}
}

// state returns what the connection is doing.
func (l *lifecycle) state() state {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

// setState publishes a state, then calls onState, unless the state is the same. It is called by the goroutine, or
// by stop if there is none.
func (l *lifecycle) setState(state state, cause error) {
	l.mu.Lock()
	if l.current == state {
		l.mu.Unlock()
		return
	}
	l.current = state
	close(l.changed)
	l.changed = make(chan struct{})
	l.mu.Unlock()
	l.onState(state, cause)
}

// waitConnected waits until there is a connection. It calls request, unless that is nil, before each wait. The error
// is errStopped after stop, and matches errNotConnected if ctx ends first.
func (l *lifecycle) waitConnected(ctx context.Context, request func()) error {
	for {
		l.mu.Lock()
		current, changed := l.current, l.changed
		l.mu.Unlock()
		switch current {
		case stateConnected:
			return nil
		case stateStopped:
			return errStopped
		}
		if request != nil {
			request()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", errNotConnected, context.Cause(ctx))
		}
	}
}

// pause waits for the backoff before the next attempt to connect. It returns errStopped once finished returns true,
// which it asks at first and whenever wake receives.
func (l *lifecycle) pause(wake <-chan struct{}, finished func() bool) error {
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
	return errStopped
}
