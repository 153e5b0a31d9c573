// SPDX-License-Identifier: Apache-2.0

package systemd

// This file sends notifications to systemd, if the service has NOTIFY_SOCKET. One goroutine does so
// for all servers of the process, because they are one service. It sends readiness, stopping,
// status, keep-alive pings, and extensions of the stop timeout.

import (
	"fmt"
	"sync"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// systemdNotifier is the notifier of the process.
var systemdNotifier notifier

// A notifier sends notifications for the servers of a process.
type notifier struct {
	mu             sync.Mutex      // Guards what follows.
	servers        []*Registration // Registered servers.
	changed        chan struct{}   // One slot; receives when servers has changed. Closed after the last server.
	lastSendFailed bool            // Sending the last notification failed.
}

// A schedule has the times of the next notifications and the content of the last ones.
type schedule struct {
	watchdog   time.Duration // The watchdog interval; 0: none.
	nextPing   time.Time
	nextStatus time.Time
	nextExtend time.Time

	lastStatus   string
	lastReceived uint64
	lastAt       time.Time
	lastProgress uint64
}

// add adds a server to the notifications.
func (s *notifier) add(r *Registration, watchdog time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.servers = append(s.servers, r)
	if len(s.servers) == 1 {
		s.changed = make(chan struct{}, 1)
		go s.run(s.changed, watchdog) // Ends when the last server is removed.
	}
	s.wakeLocked()
}

// remove removes a server if it was added.
func (s *notifier) remove(r *Registration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, other := range s.servers {
		if other == r {
			s.servers = append(s.servers[:i:i], s.servers[i+1:]...)
			s.wakeLocked()
			if len(s.servers) == 0 {
				close(s.changed)
			}
			return
		}
	}
}

// wake makes the goroutine check the servers, if there are any.
func (s *notifier) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.servers) > 0 {
		s.wakeLocked()
	}
}

func (s *notifier) wakeLocked() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *notifier) snapshot() []*Registration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Registration(nil), s.servers...)
}

// send sends a notification. It reports the first of several consecutive failures to each server.
func (s *notifier) send(state ...string) {
	err := sendState(nil, state...)
	s.mu.Lock()
	before := s.lastSendFailed
	s.lastSendFailed = err != nil
	s.mu.Unlock()
	if err == nil || before {
		return
	}
	for _, r := range s.snapshot() {
		r.server.Report(errdefs.OpNotify, r.cfg.AddrText, fmt.Errorf("%s: %w", state[0], err))
	}
}

// run sends the notifications at their times until no server is left.
func (s *notifier) run(changed <-chan struct{}, watchdog time.Duration) {
	now := time.Now()
	d := schedule{watchdog: watchdog, lastAt: now}
	d.nextPing, d.nextStatus = now.Add(watchdog/2), now.Add(MinStatusInterval) // READY=1 comes first.
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		servers := s.snapshot()
		timer.Reset(d.pause(servers, time.Now()))
		select {
		case <-timer.C:
		case _, more := <-changed:
			if !more {
				return
			}
			continue
		}
		d.checkHandlers(servers, time.Now())
		s.ping(&d, servers)
		s.status(&d, servers)
		s.extend(&d, servers)
	}
}

// pause returns the time until something is due.
func (d *schedule) pause(servers []*Registration, now time.Time) time.Duration {
	next := now.Add(time.Hour)
	sooner := func(at time.Time) {
		if at.Before(next) {
			next = at
		}
	}
	if d.watchdog > 0 {
		sooner(d.nextPing)
	}
	for _, r := range servers {
		if limit := d.handlerTimeout(r); limit > 0 {
			sooner(now.Add(max(limit/checksPerTimeout, minCheckInterval)))
		}
		if r.cfg.StatusInterval > 0 {
			sooner(d.nextStatus)
		}
		if r.server.IsStopping() {
			sooner(d.nextExtend)
		}
	}
	return next.Sub(now)
}
