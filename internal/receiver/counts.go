// SPDX-License-Identifier: Apache-2.0

package receiver

// This file has the counters of a server.

import (
	"sync/atomic"

	"github.com/udsipc/udsipc/internal/transport"
)

// counters are the counters of a server. Each connection keeps its message counters, and adds them
// here at its end.
type counters struct {
	read                            transport.ReadCounts // Of connections that have ended. Guarded by the server's mu.
	tooSlow                         atomic.Uint64
	handlerErrors, panics, tooLarge atomic.Uint64
	truncated, malformed, discarded atomic.Uint64
	accepted, refused, idleClosed   atomic.Uint64
	acceptErrors, errors            atomic.Uint64
	sessions, redelivered, batches  atomic.Uint64
	duplicates, deadLetters         atomic.Uint64
	unauthorized, handshakeErrors   atomic.Uint64
	handedOver, takenOver           atomic.Uint64
}

// Counts is a snapshot of a server's counters. At any moment handlerErrors + panics <= received.
type Counts struct {
	Received, ReceivedBytes, Reads, Acknowledged uint64
	HandlerErrors, Panics, TooLarge, TooSlow     uint64
	Truncated, Malformed, Discarded              uint64
	Accepted, Refused, IdleClosed                uint64
	AcceptErrors, Errors                         uint64
	Sessions, Redelivered, Batches               uint64
	Duplicates, DeadLetters                      uint64
	Unauthorized, HandshakeErrors                uint64
	HandedOver, Inherited                        uint64

	Open         int // Connections.
	WriterStates int // Those that are kept.
}

// Snapshot reads all counters.
func (s *Server) Snapshot() Counts {
	c := &s.counts
	// Before received: they never exceed it.
	n := Counts{HandlerErrors: c.handlerErrors.Load(), Panics: c.panics.Load()}
	sum, open := s.connCounts()
	n.Received, n.ReceivedBytes, n.Reads, n.Acknowledged = sum.Received, sum.ReceivedBytes, sum.Reads, sum.Acknowledged
	n.TooLarge, n.TooSlow = c.tooLarge.Load(), c.tooSlow.Load()
	n.Truncated, n.Malformed, n.Discarded = c.truncated.Load(), c.malformed.Load(), c.discarded.Load()
	n.Accepted, n.Refused, n.IdleClosed = c.accepted.Load(), c.refused.Load(), c.idleClosed.Load()
	n.AcceptErrors, n.Errors = c.acceptErrors.Load(), c.errors.Load()
	n.Sessions, n.Redelivered, n.Batches = c.sessions.Load(), c.redelivered.Load(), c.batches.Load()
	n.Duplicates, n.DeadLetters = c.duplicates.Load(), c.deadLetters.Load()
	n.Unauthorized, n.HandshakeErrors = c.unauthorized.Load(), c.handshakeErrors.Load()
	n.HandedOver, n.Inherited = c.handedOver.Load(), c.takenOver.Load()
	n.Open, n.WriterStates = open, s.writerStates.count()
	return n
}

// connCounts returns the sum of all connections' counters, and the number of open connections.
func (s *Server) connCounts() (sum transport.ReadCounts, open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum = s.counts.read
	for c := range s.conns.all {
		sum.Add(c.in.Counted())
	}
	return sum, len(s.conns.all)
}
