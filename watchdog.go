// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is how systemd's watchdog learns that the servers live: the goroutine that accepts connections
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

// limit is how long a handler of r may take; 0 for any time.
func (d *duty) limit(r *registration) time.Duration {
	if r.cfg.stuckAfter == 0 {
		return d.watchdog
	}
	return r.cfg.stuckAfter
}

// look has each server look at its handlers, and reports those that are stuck.
func (d *duty) look(servers []*registration, now time.Time) {
	for _, r := range servers {
		limit := d.limit(r)
		if limit == 0 {
			continue
		}
		var found []string
		found, r.hung = r.server.stuck(now, limit)
		for _, where := range found {
			r.server.report(opWatchdog, where, fmt.Errorf("%w: a handler has not returned for more than %v (WithStuckAfter)", errStuck, limit))
		}
	}
}

// ping feeds the watchdog, if it is time and every server lives.
func (s *supervisor) ping(d *duty, servers []*registration) {
	if d.watchdog == 0 || time.Now().Before(d.nextPing) {
		return
	}
	d.nextPing = time.Now().Add(d.watchdog / 2)
	for _, r := range servers {
		if !r.server.answers(min(maxAnswerWait, d.watchdog/4)) {
			r.server.report(opWatchdog, r.cfg.where, fmt.Errorf("%w: the goroutine that accepts connections does not answer", errStuck))
			return
		}
		if r.hung > 0 {
			return // Reported already.
		}
	}
	s.say(notifyAlive)
}
