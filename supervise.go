// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file keeps systemd informed, where a service is asked for it: one goroutine for all Readers of the
// process, since they are one service. It says when they are ready and when they stop, what they do, that they
// live, and that the end of them takes longer but goes on.

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// supervision is of the whole process, as systemd's is.
var supervision supervisor

// A supervisor speaks for the Readers of a process.
type supervisor struct {
	mu      sync.Mutex    // Guards what follows.
	readers []*server     // Those that are started and have not ended.
	changed chan struct{} // One slot: they have changed. Closed with the last one.
	failing bool          // The last thing could not be said.
}

// A duty is what the goroutine of a supervisor has to do, and remembers of it.
type duty struct {
	watchdog   time.Duration // Its interval; 0 for none.
	nextPing   time.Time
	nextStatus time.Time
	nextExtend time.Time

	lastStatus   string
	lastReceived uint64
	lastAt       time.Time
	lastProgress uint64
}

// supervised says whether systemd is to know of r.
func (r *server) supervised() bool {
	if r.cfg.withoutSystemd || r.cfg.withoutNotifications {
		return false
	}
	_, err := notifyAddress()
	return !errors.Is(err, errNotSupervised)
}

// enroll has systemd hear of r from now on, before r does anything. The error is reported by announce.
func (s *supervisor) enroll(r *server) {
	if !r.supervised() {
		return
	}
	watchdog, err := watchdogInterval()
	r.superviseErr = err
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readers = append(s.readers, r)
	if len(s.readers) == 1 {
		s.changed = make(chan struct{}, 1)
		go s.run(s.changed, watchdog) // Ends when the last Reader has left.
	}
	s.wakeLocked()
}

// announce says that r is ready.
func (s *supervisor) announce(r *server) {
	if !r.supervised() {
		return
	}
	if r.superviseErr != nil {
		r.report(opWatchdog, r.cfg.where, r.superviseErr)
	}
	if !r.cfg.withoutReady && !r.isStopping() {
		s.say(notifyReady)
	}
}

// retire says that r stops, if no other Reader goes on.
func (s *supervisor) retire(r *server) {
	if !r.supervised() {
		return
	}
	going := 0
	for _, other := range s.all() {
		if !other.isStopping() {
			going++
		}
	}
	if going == 0 {
		s.say(notifyStopping)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.readers) > 0 {
		s.wakeLocked()
	}
}

// leave forgets r, which has ended.
func (s *supervisor) leave(r *server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, other := range s.readers {
		if other == r {
			s.readers = append(s.readers[:i:i], s.readers[i+1:]...)
			s.wakeLocked()
			if len(s.readers) == 0 {
				close(s.changed)
			}
			return
		}
	}
}

// mourn says why r ended by itself.
func (s *supervisor) mourn(r *server, why error) {
	if !r.supervised() {
		return
	}
	state := []string{"STATUS=" + strings.ReplaceAll(why.Error(), "\n", " ")}
	if errno := syscall.Errno(0); errors.As(why, &errno) {
		state = append(state, "ERRNO="+strconv.Itoa(int(errno)))
	}
	s.say(state...)
}

func (s *supervisor) wakeLocked() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *supervisor) all() []*server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*server(nil), s.readers...)
}

// say tells systemd. The first of several failures in a row is reported, to each Reader.
func (s *supervisor) say(state ...string) {
	err := notify(nil, state...)
	s.mu.Lock()
	before := s.failing
	s.failing = err != nil
	s.mu.Unlock()
	if err == nil || before {
		return
	}
	for _, r := range s.all() {
		r.report(opNotify, r.cfg.where, fmt.Errorf("%s: %w", state[0], err))
	}
}

// run does what is due, until there is no Reader left.
func (s *supervisor) run(changed <-chan struct{}, watchdog time.Duration) {
	now := time.Now()
	d := duty{watchdog: watchdog, nextPing: now.Add(watchdog / 2), nextStatus: now.Add(minStatusInterval), lastAt: now} // READY=1 comes first.
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		readers := s.all()
		timer.Reset(d.pause(readers, time.Now()))
		select {
		case <-timer.C:
		case _, more := <-changed:
			if !more {
				return
			}
			continue
		}
		d.look(readers, time.Now())
		s.ping(&d, readers)
		s.status(&d, readers)
		s.extend(&d, readers)
	}
}

// pause is how long there is nothing to do.
func (d *duty) pause(readers []*server, now time.Time) time.Duration {
	next := now.Add(time.Hour)
	sooner := func(at time.Time) {
		if at.Before(next) {
			next = at
		}
	}
	if d.watchdog > 0 {
		sooner(d.nextPing)
	}
	for _, r := range readers {
		if limit := d.limit(r); limit > 0 {
			sooner(now.Add(max(limit/looksPerLimit, minLook)))
		}
		if r.cfg.statusInterval > 0 {
			sooner(d.nextStatus)
		}
		if r.isStopping() {
			sooner(d.nextExtend)
		}
	}
	return next.Sub(now)
}
