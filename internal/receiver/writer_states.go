// SPDX-License-Identifier: Apache-2.0

package receiver

// This file has the states of the writers with sessions: how far each of them is, and which connection
// owns its state. A newer connection fences the owner.

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// errOldEpoch is the error for a connection whose writer has opened a newer one.
var errOldEpoch = fmt.Errorf("%w: old epoch", errdefs.ErrInvalidSession)

// writerStates has the states of all writers, up to max: of the writers that are not connected, the one
// whose last connection ended first is evicted first.
type writerStates struct {
	max       int
	retention time.Duration

	mu     sync.Mutex // Guards what follows.
	states map[wire.WriterKey]*writerState
	idle   list.List // Of *writerState, in the order in which their last connections ended.
}

// A writerState is the state of one writer.
type writerState struct {
	key   wire.WriterKey
	epoch uint64 // The highest that was seen.
	known bool   // Set after the first welcome; then the next two fields are valid.
	// Last handled message; while a connection owns the state, as of its welcome.
	handled uint64
	// Messages up to this one may have been handled by an earlier reader, or by a handler that
	// failed.
	maybeHandledThrough uint64
	failures            int // Failures of the handler for the message after handled.

	owner *ownership    // The newest connection; nil if disconnected.
	since time.Time     // Time of the last disconnect.
	entry *list.Element // In idle, nil if it is not.
}

// An ownership is the claim of one connection to the state of its writer. It must be released.
type ownership struct {
	states   *writerStates
	state    *writerState
	hello    wire.Hello
	previous *ownership    // The older connection, which is fenced.
	fence    func()        // Ends the connection.
	done     chan struct{} // Closed by release.

	fenced bool // A newer connection owns the state. Guarded by states.mu.
	active bool // It owns the state, after the older one has released it. Guarded by states.mu.
}

func newWriterStates(max int, retention time.Duration) *writerStates {
	return &writerStates{max: max, retention: retention, states: make(map[wire.WriterKey]*writerState)}
}

// acquire makes a new connection the next owner of its writer's state, and fences the previous one.
// An epoch that is not higher than all before it is an error, and changes nothing.
func (m *writerStates) acquire(identity string, h wire.Hello, fence func()) (*ownership, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.evictLocked(time.Now())
	key := wire.WriterKey{Identity: identity, Writer: h.Writer}
	w := m.states[key]
	if w == nil {
		w = &writerState{key: key}
		m.states[key] = w
	}
	if h.Epoch <= w.epoch {
		return nil, fmt.Errorf("%w %d of writer %v, current epoch %d", errOldEpoch, h.Epoch, h.Writer, w.epoch)
	}
	w.epoch = h.Epoch
	c := &ownership{states: m, state: w, hello: h, previous: w.owner, fence: fence, done: make(chan struct{})}
	w.owner = c
	if w.entry != nil {
		m.idle.Remove(w.entry)
		w.entry = nil
	}
	if c.previous != nil {
		c.previous.fenced = true
		c.previous.fence()
	}
	m.evictLocked(time.Now())
	return c, nil
}

// waitForPrevious waits until the previous owner has released the state, and calls alive at
// intervals. It returns the last handled message, the last one that an earlier reader may have
// handled, and the failures of the handler for the next one. Then this connection owns the state,
// unless it was fenced itself.
func (c *ownership) waitForPrevious(ctx context.Context, interval time.Duration,
	alive func()) (handled, repeats uint64, failures int, err error) {
	if err := c.awaitRelease(ctx, interval, alive); err != nil {
		return 0, 0, 0, err
	}
	m, w := c.states, c.state
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.fenced {
		return 0, 0, 0, fmt.Errorf("%w: writer %v has connected again", errOldEpoch, w.key.Writer)
	}
	c.active = true
	if !w.known {
		w.known = true
		w.handled, w.maybeHandledThrough = c.hello.FirstSeq-1, c.hello.LastSentSeq
	}
	if w.handled < c.hello.FirstSeq-1 {
		w.handled, w.failures = c.hello.FirstSeq-1, 0 // What the writer has set aside will not come.
	}
	return w.handled, w.maybeHandledThrough, w.failures, nil
}

func (c *ownership) awaitRelease(ctx context.Context, interval time.Duration, alive func()) error {
	if c.previous == nil {
		return nil
	}
	var ticks <-chan time.Time
	if interval > 0 {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		ticks = ticker.C
	}
	for {
		select {
		case <-c.previous.done:
			c.previous = nil // Frees the previous ownership.
			return nil
		case <-ticks:
			alive()
		case <-ctx.Done():
			return transport.ErrGracefulEnd
		}
	}
}

// acquireInherited is acquire and waitForPrevious for a connection of an earlier process, of which
// everything is known. The writer must not have connected again since, and have the same identity.
func (m *writerStates) acquireInherited(key wire.WriterKey, left wire.WriterSnapshot,
	fence func()) (*ownership, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.states[key]
	if key != left.Key || w != nil && (w.epoch > left.Epoch || w.owner != nil) {
		return nil, fmt.Errorf("%w: writer %v has connected again, or is another one now", errOldEpoch, key.Writer)
	}
	if w == nil {
		w = &writerState{key: key}
		m.states[key] = w
	} else if w.entry != nil {
		m.idle.Remove(w.entry)
		w.entry = nil
	}
	w.epoch, w.known, w.failures = left.Epoch, true, left.Failures
	w.handled, w.maybeHandledThrough = left.Handled, left.MaybeHandledThrough
	w.owner = &ownership{states: m, state: w, fence: fence, done: make(chan struct{}), active: true}
	return w.owner, nil
}

// export returns the states of the writers that no connection owns at the moment.
func (m *writerStates) export(now time.Time) (list []wire.WriterSnapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for entry := m.idle.Front(); entry != nil; entry = entry.Next() {
		if w := entry.Value.(*writerState); w.known {
			list = append(list, wire.WriterSnapshot{
				Key: w.key, Epoch: w.epoch, Handled: w.handled,
				MaybeHandledThrough: w.maybeHandledThrough, Failures: w.failures,
				Idle: now.Sub(w.since),
			})
		}
	}
	return list
}

// restore adds the states that another process has exported, at the beginning.
func (m *writerStates) restore(list []wire.WriterSnapshot, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, known := range list {
		if m.states[known.Key] != nil {
			continue
		}
		w := &writerState{
			key: known.Key, epoch: known.Epoch, known: true, handled: known.Handled,
			maybeHandledThrough: known.MaybeHandledThrough, failures: known.Failures,
			since: now.Add(-known.Idle),
		}
		m.states[w.key] = w
		w.entry = m.idle.PushBack(w)
	}
}

// snapshot returns the state of the owned writer for another process, with the last message that is
// handled and how often the handler has failed for the next one.
func (c *ownership) snapshot(handled uint64, failures int) wire.WriterSnapshot {
	c.states.mu.Lock()
	defer c.states.mu.Unlock()
	w := c.state
	return wire.WriterSnapshot{
		Key: w.key, Epoch: w.epoch, Handled: handled, MaybeHandledThrough: w.maybeHandledThrough,
		Failures: failures,
	}
}

// release gives up the ownership, and stores the last message that its connection handled, the last
// one that it offered to the handler, and how often the handler has failed for the one after handled.
func (c *ownership) release(handled, offered uint64, failures int) {
	m, w := c.states, c.state
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.active {
		w.handled, w.failures = handled, failures
		if failures > 0 {
			offered = max(offered, handled+1)
		}
		if offered > handled {
			w.maybeHandledThrough = max(w.maybeHandledThrough, offered)
		}
	}
	if w.owner == c {
		w.owner = nil
		w.since = time.Now()
		w.entry = m.idle.PushBack(w)
		m.evictLocked(w.since)
	}
	close(c.done)
}

// evictLocked removes the states that are too old or too many.
func (m *writerStates) evictLocked(now time.Time) {
	for front := m.idle.Front(); front != nil; front = m.idle.Front() {
		w := front.Value.(*writerState)
		if len(m.states) <= m.max && now.Sub(w.since) < m.retention {
			return
		}
		m.idle.Remove(front)
		delete(m.states, w.key)
	}
}

// count returns the number of states.
func (m *writerStates) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.evictLocked(time.Now())
	return len(m.states)
}
