// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what a server counts.

import "sync/atomic"

// counters are the counters of a server. Those that change with each message are kept by each
// connection for itself, and added here when it ends.
type counters struct {
	read                            readCounts // Of connections that have ended. Guarded by the server's mu.
	tooSlow                         atomic.Uint64
	handlerErrors, panics, tooLarge atomic.Uint64
	truncated, malformed, discarded atomic.Uint64
	accepted, refused, idleClosed   atomic.Uint64
	acceptErrors, errors            atomic.Uint64
	sessions, redelivered           atomic.Uint64
	duplicates, deadLetters         atomic.Uint64
	unauthorized, handshakeErrors   atomic.Uint64
	handedOver, takenOver           atomic.Uint64
}

// serverCounts is a snapshot of a server's counters. At any moment handlerErrors + panics <= received.
type serverCounts struct {
	received, receivedBytes, reads, acknowledged uint64
	handlerErrors, panics, tooLarge, tooSlow     uint64
	truncated, malformed, discarded              uint64
	accepted, refused, idleClosed                uint64
	acceptErrors, errors                         uint64
	sessions, redelivered                        uint64
	duplicates, deadLetters                      uint64
	unauthorized, handshakeErrors                uint64
	handedOver, inherited                        uint64

	open         int // Connections.
	writerStates int // Those that are remembered.
}

// snapshot reads all counters.
func (s *server) snapshot() serverCounts {
	c := &s.counts
	n := serverCounts{handlerErrors: c.handlerErrors.Load(), panics: c.panics.Load()} // Before received: so there are not more of them.
	sum, open := s.connCounts()
	n.received, n.receivedBytes, n.reads, n.acknowledged = sum.received, sum.receivedBytes, sum.reads, sum.acknowledged
	n.tooLarge, n.tooSlow = c.tooLarge.Load(), c.tooSlow.Load()
	n.truncated, n.malformed, n.discarded = c.truncated.Load(), c.malformed.Load(), c.discarded.Load()
	n.accepted, n.refused, n.idleClosed = c.accepted.Load(), c.refused.Load(), c.idleClosed.Load()
	n.acceptErrors, n.errors = c.acceptErrors.Load(), c.errors.Load()
	n.sessions, n.redelivered = c.sessions.Load(), c.redelivered.Load()
	n.duplicates, n.deadLetters = c.duplicates.Load(), c.deadLetters.Load()
	n.unauthorized, n.handshakeErrors = c.unauthorized.Load(), c.handshakeErrors.Load()
	n.handedOver, n.inherited = c.handedOver.Load(), c.takenOver.Load()
	n.open, n.writerStates = open, s.writerStates.count()
	return n
}

// connCounts returns what all connections have counted, and how many are open.
func (s *server) connCounts() (sum readCounts, open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum = s.counts.read
	for c := range s.conns.all {
		sum.add(c.in.counted())
	}
	return sum, len(s.conns.all)
}
