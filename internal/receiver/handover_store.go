// SPDX-License-Identifier: Apache-2.0

package receiver

// This file has a server's share in the descriptor store, and the connections that wait for
// systemd's confirmation.

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/udsipc/udsipc/internal/systemd"
	"github.com/udsipc/udsipc/internal/wire"
)

// A handOverStore is the share of a server in systemd's descriptor store.
type handOverStore struct {
	share        *systemd.StoreShare
	preparing    sync.Mutex    // Held while the listener is stored. It is taken before the mutex of the server.
	pauseChanged chan struct{} // One slot: a connection is paused, or has ended.
	decided      chan struct{} // Closed when the outcome for the paused connections is known.

	mu          sync.Mutex // Guards what follows. It is taken under the mutex of the server, never the other way round.
	pausedConns int        // How many connections wait for decided.
	sessions    map[*stream]wire.SessionSnapshot
	confirmed   bool // systemd keeps everything; set before decided is closed.
}

func newHandOverStore(key string) handOverStore {
	return handOverStore{
		share: systemd.NewStoreShare(key), pauseChanged: make(chan struct{}, 1),
		decided: make(chan struct{}), sessions: make(map[*stream]wire.SessionSnapshot),
	}
}

// addState stores the states of the writers and of the paused connections. It has a reserved slot.
func (h *handOverStore) addState(writers *writerStates) error {
	h.mu.Lock()
	state := wire.HandOverState{Sessions: slices.Collect(maps.Values(h.sessions))}
	h.mu.Unlock()
	state.Writers = writers.export(time.Now())
	return h.share.AddState(state.Encode())
}

// waitDecision is called for a paused connection. It returns whether systemd keeps everything. Only
// completeHandOver decides that, also after a forced stop: a connection that systemd keeps must not
// be closed.
//
// A newer connection of the same writer cannot pause before this one has released the writer state.
// Then this one ends; the next process closes its descriptor, because there is no entry for its
// session.
func (h *handOverStore) waitDecision(c *stream, session *wire.SessionSnapshot) bool {
	h.mu.Lock()
	h.pausedConns++
	if session != nil {
		h.sessions[c] = *session
	}
	h.mu.Unlock()
	h.signalPaused()
	fenced := false
	select {
	case <-h.decided:
	case <-c.fenced: // nil without a session.
		fenced = true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pausedConns--
	if fenced {
		delete(h.sessions, c)
	}
	return h.confirmed && !fenced
}

// pausedIs reports whether count connections are paused.
func (h *handOverStore) pausedIs(n int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pausedConns == n
}

// signalPaused wakes completeHandOver to count the paused connections again.
func (h *handOverStore) signalPaused() {
	select {
	case h.pauseChanged <- struct{}{}:
	default:
	}
}

// decide publishes to the paused connections whether systemd keeps everything.
func (h *handOverStore) decide(kept bool) {
	h.mu.Lock()
	h.confirmed = kept
	h.mu.Unlock()
	close(h.decided)
}
