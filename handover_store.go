// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what a server leaves with systemd for the next process, and which of its connections wait until it is
// certain that systemd keeps it.

import (
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"
)

// A handOverStore is the share of a server in systemd's descriptor store.
type handOverStore struct {
	key     string        // Names what is left.
	rested  chan struct{} // One slot: a connection is at rest, or has ended.
	verdict chan struct{} // Closed when it is certain what becomes of those at rest.

	mu       sync.Mutex     // Guards what follows. It is taken under the mutex of the server, never the other way round.
	left     map[string]int // How many descriptors were left with systemd, by their names.
	resting  int            // How many connections were, and wait whether that is for good.
	sessions map[*stream]legacySession
	kept     bool // It is for good; verdict is closed.
}

func newHandOverStore(key string) handOverStore {
	return handOverStore{key: key, rested: make(chan struct{}, 1), verdict: make(chan struct{}), sessions: make(map[*stream]legacySession)}
}

// name is the name under which something of this kind is left.
func (h *handOverStore) name(kind string) string { return storeName(kind, h.key) }

// leave leaves a descriptor with systemd, if there is room.
func (h *handOverStore) leave(kind string, what syscall.Conn) error {
	if err := takeSlots(1); err != nil {
		return err
	}
	name := h.name(kind)
	if err := store(name, what); err != nil {
		freeSlots(1)
		return err
	}
	h.noteLeft(name)
	return nil
}

func (h *handOverStore) noteLeft(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.left == nil {
		h.left = make(map[string]int)
	}
	h.left[name]++
}

// leaveState leaves what is known of the writers, and of the connections at rest. It has a reserved slot.
func (h *handOverStore) leaveState(writers *writerMemory) error {
	h.mu.Lock()
	state := legacyState{sessions: slices.Collect(maps.Values(h.sessions))}
	h.mu.Unlock()
	state.writers = writers.export(time.Now())
	name := h.name(storeMemory)
	if err := storeMemoryFile(name, state.bytes()); err != nil {
		return err
	}
	h.noteLeft(name)
	return nil
}

// forgetLeft has systemd forget what was left, what is known of the writers included: that is wrong with the next
// message that is handled here.
func (h *handOverStore) forgetLeft() {
	h.mu.Lock()
	left := h.left
	h.left = nil
	h.mu.Unlock()
	freeSlots(reservedSlots)
	for name, n := range left {
		if name != h.name(storeMemory) { // That has a reserved slot.
			freeSlots(int64(n))
		}
		_ = unstore(name, int64(n)) // If systemd cannot be told, it knows of nothing either.
	}
}

// awaitVerdict is called by a connection at rest. It returns whether systemd keeps everything. Only settleHandOver
// decides that, also after a stop that does not wait: a connection that is told its end must not be with systemd.
//
// A newer connection of the same writer cannot come to rest before this one has let go of the writer. Then this one
// ends; the next process closes it, because nothing is known of its session.
func (h *handOverStore) awaitVerdict(c *stream, session *legacySession) bool {
	h.mu.Lock()
	h.resting++
	if session != nil {
		h.sessions[c] = *session
	}
	h.mu.Unlock()
	h.signalRest()
	fenced := false
	select {
	case <-h.verdict:
	case <-c.fenced: // nil without a session.
		fenced = true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.resting--
	if fenced {
		delete(h.sessions, c)
	}
	return h.kept && !fenced
}

// restingIs reports whether so many connections are at rest.
func (h *handOverStore) restingIs(n int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.resting == n
}

// signalRest has whoever waits look again whether all connections are at rest.
func (h *handOverStore) signalRest() {
	select {
	case h.rested <- struct{}{}:
	default:
	}
}

// decide tells the connections at rest whether systemd keeps everything.
func (h *handOverStore) decide(kept bool) {
	h.mu.Lock()
	h.kept = kept
	h.mu.Unlock()
	close(h.verdict)
}
