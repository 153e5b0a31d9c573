// SPDX-License-Identifier: Apache-2.0

package receiver

// This file reports the activity of a server to systemd: its counters, whether it responds, and
// which handlers are hung. Nothing is measured per message: connections are checked at intervals.

import (
	"time"

	"github.com/udsipc/udsipc/internal/systemd"
)

// A progressMark is the last progress of a connection that was seen.
type progressMark struct {
	count    uint64
	since    time.Time
	reported bool
}

// HungConns checks each connection. It returns those whose handlers were found to hang since the
// last check, and how many hang in all.
func (s *Server) HungConns(now time.Time, limit time.Duration) (found []string, total int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns.all {
		p := &c.progress
		count := c.in.Received() + c.redeliveries.Load()
		if !c.inHandler.Load() || count != p.count || p.since.IsZero() {
			*p = progressMark{count: count, since: now}
			continue
		}
		if now.Sub(p.since) <= limit {
			continue
		}
		total++
		if !p.reported {
			p.reported = true
			found = append(found, c.addrText())
		}
	}
	return found, total
}

// IsAlive reports whether the accept loop responds in time.
func (s *Server) IsAlive(within time.Duration) bool { return s.health.responds(within, s.stopping) }

// Activity returns a snapshot of the server's work.
func (s *Server) Activity() systemd.Activity {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := systemd.Activity{Connections: len(s.conns.all)}
	sum := s.counts.read
	for c := range s.conns.all {
		sum.Add(c.in.Counted())
		a.Progress += c.redeliveries.Load()
		a.Waiting += c.in.UnreadBytes()
	}
	a.Received = sum.Received
	a.Progress += a.Received + sum.ReceivedBytes - uint64(a.Connections)
	return a
}
