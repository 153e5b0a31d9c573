// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what a Reader remembers of the writers of its sessions: how far each of them is, and
// which connection speaks for it. A newer connection takes over from an older one.

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"
)

// errStale is why a connection is refused whose writer has connected again since.
var errStale = fmt.Errorf("%w: old epoch", errInvalidSession)

// A writerMemory is bounded: of the writers that are not connected, the one whose last connection
// ended first is forgotten first.
type writerMemory struct {
	max  int
	keep time.Duration

	mu      sync.Mutex // Guards what follows.
	writers map[writerKey]*remembered
	idle    list.List // Of *remembered, in the order in which their last connections ended.
}

// A remembered is a writer.
type remembered struct {
	key      writerKey
	attempt  uint64 // The newest that was seen.
	known    bool   // It was welcome once; the next two are set.
	handled  uint64 // The last message that is handled; while a connection lives, as of its beginning.
	repeats  uint64 // Up to here an earlier reader, or a handler that failed, may have handled messages.
	failures int    // How often the handler has failed for the message behind handled.

	owner *claim        // The newest connection, nil if there is none.
	since time.Time     // When the last one ended.
	entry *list.Element // In idle, nil if it is not.
}

// A claim is what one connection has to do with its writer. It must be released.
type claim struct {
	memory *writerMemory
	writer *remembered
	hello  hello
	before *claim        // The connection that it takes over from.
	fence  func()        // Makes the connection end soon.
	done   chan struct{} // Closed by release.

	fenced  bool // A newer connection took over. Guarded by memory.mu.
	welcome bool // It speaks for the writer. Guarded by memory.mu.
}

func newWriterMemory(max int, keep time.Duration) *writerMemory {
	return &writerMemory{max: max, keep: keep, writers: make(map[writerKey]*remembered)}
}

// claim makes a new connection the one that speaks for its writer, and fences the older one. A
// connection that is not newer than all before it gets an error, and nothing is changed.
func (m *writerMemory) claim(who string, h hello, fence func()) (*claim, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetLocked(time.Now())
	key := writerKey{who: who, writer: h.writer}
	w := m.writers[key]
	if w == nil {
		w = &remembered{key: key}
		m.writers[key] = w
	}
	if h.attempt <= w.attempt {
		return nil, fmt.Errorf("%w %d of writer %v, current epoch %d", errStale, h.attempt, h.writer, w.attempt)
	}
	w.attempt = h.attempt
	c := &claim{memory: m, writer: w, hello: h, before: w.owner, fence: fence, done: make(chan struct{})}
	w.owner = c
	if w.entry != nil {
		m.idle.Remove(w.entry)
		w.entry = nil
	}
	if c.before != nil {
		c.before.fenced = true
		c.before.fence()
	}
	m.forgetLocked(time.Now())
	return c, nil
}

// wait waits until the older connection is at rest, and calls alive now and then meanwhile. It
// returns the last message that is handled, up to which one an earlier reader may have handled
// others, and how often the handler has failed for the next one. The claim speaks for its writer then, unless it was fenced itself.
func (c *claim) wait(ctx context.Context, interval time.Duration, alive func()) (handled, repeats uint64, failures int, err error) {
	if err := c.awaitBefore(ctx, interval, alive); err != nil {
		return 0, 0, 0, err
	}
	m, w := c.memory, c.writer
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.fenced {
		return 0, 0, 0, fmt.Errorf("%w: writer %v has connected again", errStale, w.key.writer)
	}
	c.welcome = true
	if !w.known {
		w.known = true
		w.handled, w.repeats = c.hello.first-1, c.hello.sent
	}
	if w.handled < c.hello.first-1 {
		w.handled, w.failures = c.hello.first-1, 0 // What the writer has set aside will not come.
	}
	return w.handled, w.repeats, w.failures, nil
}

func (c *claim) awaitBefore(ctx context.Context, interval time.Duration, alive func()) error {
	if c.before == nil {
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
		case <-c.before.done:
			c.before = nil // It may be forgotten.
			return nil
		case <-ticks:
			alive()
		case <-ctx.Done():
			return errEnded
		}
	}
}

// reclaim is claim and wait for a connection that an earlier process has left, of which everything is known. The writer
// must not have connected again since, and be the same one as then.
func (m *writerMemory) reclaim(key writerKey, left legacyWriter, fence func()) (*claim, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.writers[key]
	if key != left.key || w != nil && (w.attempt > left.attempt || w.owner != nil) {
		return nil, fmt.Errorf("%w: writer %v has connected again, or is another one now", errStale, key.writer)
	}
	if w == nil {
		w = &remembered{key: key}
		m.writers[key] = w
	} else if w.entry != nil {
		m.idle.Remove(w.entry)
		w.entry = nil
	}
	w.attempt, w.known, w.handled, w.repeats, w.failures = left.attempt, true, left.handled, left.repeats, left.failures
	w.owner = &claim{memory: m, writer: w, fence: fence, done: make(chan struct{}), welcome: true}
	return w.owner, nil
}

// export returns what is known for certain of the writers that nobody speaks for at the moment.
func (m *writerMemory) export(now time.Time) (list []legacyWriter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for entry := m.idle.Front(); entry != nil; entry = entry.Next() {
		if w := entry.Value.(*remembered); w.known {
			list = append(list, legacyWriter{key: w.key, attempt: w.attempt, handled: w.handled, repeats: w.repeats, failures: w.failures, idle: now.Sub(w.since)})
		}
	}
	return list
}

// restore remembers what another process has exported, at the beginning.
func (m *writerMemory) restore(list []legacyWriter, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, known := range list {
		if m.writers[known.key] != nil {
			continue
		}
		w := &remembered{key: known.key, attempt: known.attempt, known: true, handled: known.handled, repeats: known.repeats, failures: known.failures, since: now.Add(-known.idle)}
		m.writers[w.key] = w
		w.entry = m.idle.PushBack(w)
	}
}

// is returns what another process has to know of the claim's writer, once so many messages of it are handled, and the
// handler has failed for the next one so often.
func (c *claim) is(handled uint64, failures int) legacyWriter {
	c.memory.mu.Lock()
	defer c.memory.mu.Unlock()
	w := c.writer
	return legacyWriter{key: w.key, attempt: w.attempt, handled: handled, repeats: w.repeats, failures: failures}
}

// release ends the claim, and remembers the last message that its connection handled, and how often the handler has
// failed for the next one.
func (c *claim) release(handled uint64, failures int) {
	m, w := c.memory, c.writer
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.welcome {
		w.handled, w.failures = handled, failures
		if failures > 0 {
			w.repeats = max(w.repeats, handled+1)
		}
	}
	if w.owner == c {
		w.owner = nil
		w.since = time.Now()
		w.entry = m.idle.PushBack(w)
		m.forgetLocked(w.since)
	}
	close(c.done)
}

// forgetLocked forgets the writers that are too old or too many.
func (m *writerMemory) forgetLocked(now time.Time) {
	for front := m.idle.Front(); front != nil; front = m.idle.Front() {
		w := front.Value.(*remembered)
		if len(m.writers) <= m.max && now.Sub(w.since) < m.keep {
			return
		}
		m.idle.Remove(front)
		delete(m.writers, w.key)
	}
}

// count returns how many writers are remembered.
func (m *writerMemory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetLocked(time.Now())
	return len(m.writers)
}
