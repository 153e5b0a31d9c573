// SPDX-License-Identifier: Apache-2.0

package systemd

// This file sends the keep-alive pings of systemd's watchdog while each accept loop responds and no
// handler hangs. Messages are not measured one by one: the connections are checked at intervals.

import (
	"fmt"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
)

const (
	healthCheckTimeout = time.Second // How long an accept loop may take to respond.
	checksPerTimeout   = 4           // Checks of a handler within its time limit.
	minCheckInterval   = 5 * time.Millisecond
)

// handlerTimeout returns how long a handler of r may take; 0 or less: no limit.
func (d *schedule) handlerTimeout(r *Registration) time.Duration {
	if r.cfg.HungTimeout == 0 {
		return d.watchdog
	}
	return r.cfg.HungTimeout
}

// stopTimeout returns how long r may stop without progress. A handler without a limit gets the watchdog
// interval: a stop has to end.
func (d *schedule) stopTimeout(r *Registration) time.Duration {
	if limit := d.handlerTimeout(r); limit > 0 {
		return stopExtension + limit
	}
	return stopExtension + d.watchdog
}

// checkHandlers checks the handlers of each server, and reports hung ones.
func (d *schedule) checkHandlers(servers []*Registration, now time.Time) {
	for _, r := range servers {
		limit := d.handlerTimeout(r)
		if limit <= 0 {
			continue
		}
		var found []string
		found, r.hungCount = r.server.HungConns(now, limit)
		for _, where := range found {
			r.server.Report(errdefs.OpWatchdog, where, fmt.Errorf(
				"%w: a handler has not returned for more than %v (WithHungTimeout)",
				errdefs.ErrHung, limit))
		}
	}
}

// ping sends a keep-alive ping, if it is time and every server responds.
func (s *notifier) ping(d *schedule, servers []*Registration) {
	if d.watchdog == 0 || time.Now().Before(d.nextPing) {
		return
	}
	d.nextPing = time.Now().Add(d.watchdog / 2)
	for _, r := range servers {
		if !r.server.IsAlive(min(healthCheckTimeout, d.watchdog/4)) {
			r.server.Report(errdefs.OpWatchdog, r.cfg.AddrText,
				fmt.Errorf("%w: the accept loop does not respond", errdefs.ErrHung))
			return
		}
		if r.hungCount > 0 {
			return // Already reported by checkHandlers.
		}
	}
	s.send(notifyAlive)
}
