// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what a server tells of its work: what it does, whether it responds, and which of its handlers are stuck.
// Nothing is measured per message: connections are looked at now and then.

import "time"

// A progressMark is when a connection was last seen to get on.
type progressMark struct {
	count    uint64
	since    time.Time
	reported bool
}

// hungConns looks at each connection. It returns where those are whose handlers have turned out to be stuck since the last
// look, and how many are stuck in all.
func (s *server) hungConns(now time.Time, limit time.Duration) (found []string, total int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns.all {
		p := &c.progress
		beat := c.in.received() + c.redeliveries.Load()
		if !c.inHandler.Load() || beat != p.count || p.since.IsZero() {
			*p = progressMark{count: beat, since: now}
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

// isAlive reports whether the goroutine that accepts connections responds in time.
func (s *server) isAlive(within time.Duration) bool { return s.health.responds(within, s.stopping) }

// activity returns what the server does.
func (s *server) activity() activity {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := activity{connections: len(s.conns.all)}
	sum := s.counts.read
	for c := range s.conns.all {
		sum.add(c.in.counted())
		a.progress += c.redeliveries.Load()
		a.waiting += c.in.unreadBytes()
	}
	a.received = sum.received
	a.progress += a.received + sum.receivedBytes - uint64(a.connections)
	return a
}
