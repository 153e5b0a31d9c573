// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is how systemd's watchdog learns that the Readers live: the goroutine that accepts connections
// answers, and no handler is stuck. Nothing is measured per message: connections are looked at now and then.

import (
	"fmt"
	"time"
)

const (
	maxAnswerWait = time.Second // How long the goroutine that accepts may take to answer.
	looksPerLimit = 4           // How often a handler is looked at in the time that it may take.
	minLook       = 5 * time.Millisecond
)

// A pulse is when a connection was last seen to get on.
type pulse struct {
	beat     uint64
	since    time.Time
	reported bool
}

// limit is how long a handler of r may take; 0 for any time.
func (d *duty) limit(r *server) time.Duration {
	if r.cfg.stuckAfter == 0 {
		return d.watchdog
	}
	return r.cfg.stuckAfter
}

// look takes the pulse of each connection, and reports those that are stuck.
func (d *duty) look(readers []*server, now time.Time) {
	for _, r := range readers {
		limit := d.limit(r)
		if limit == 0 {
			continue
		}
		for _, c := range r.stuck(now, limit) {
			r.report(opWatchdog, c.where(), fmt.Errorf("%w: a handler has not returned for more than %v (WithStuckAfter)", errStuck, limit))
		}
	}
}

// stuck returns the connections whose handlers have turned out to be stuck since the last look.
func (r *server) stuck(now time.Time, limit time.Duration) (found []*connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stuckHandlers = 0
	for c := range r.conns.all {
		p := &c.pulse
		beat := c.in.received() + c.offers.Load()
		if !c.handling.Load() || beat != p.beat || p.since.IsZero() {
			*p = pulse{beat: beat, since: now}
			continue
		}
		if now.Sub(p.since) <= limit {
			continue
		}
		r.stuckHandlers++
		if !p.reported {
			p.reported = true
			found = append(found, c)
		}
	}
	return found
}

// ping feeds the watchdog, if it is time and every Reader lives.
func (s *supervisor) ping(d *duty, readers []*server) {
	if d.watchdog == 0 || time.Now().Before(d.nextPing) {
		return
	}
	d.nextPing = time.Now().Add(d.watchdog / 2)
	for _, r := range readers {
		if !r.health.responds(min(maxAnswerWait, d.watchdog/4), r.stopping) {
			r.report(opWatchdog, r.cfg.where, fmt.Errorf("%w: the goroutine that accepts connections does not answer", errStuck))
			return
		}
		r.mu.Lock()
		stuck := r.stuckHandlers
		r.mu.Unlock()
		if stuck > 0 {
			return // Reported already.
		}
	}
	s.say(notifyAlive)
}
