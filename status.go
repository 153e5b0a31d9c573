// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what systemd is told of the servers' work: the status, and that stopping gets on.

import (
	"fmt"
	"strconv"
	"time"
)

const (
	stopExtension  = 10 * time.Second // What systemd is asked to wait on for, beside what a handler may take.
	extendInterval = time.Second      // How often.
)

// minStatusInterval is the least that WithStatusInterval may be.
const minStatusInterval = 100 * time.Millisecond

// status says what the servers do, if it is time and that is not what was said last.
func (s *notifier) status(d *schedule, servers []*registration) {
	interval := time.Duration(0)
	for _, r := range servers {
		if own := r.cfg.statusInterval; own > 0 && (interval == 0 || own < interval) {
			interval = own
		}
	}
	now := time.Now()
	if interval == 0 || now.Before(d.nextStatus) {
		return
	}
	d.nextStatus = now.Add(interval)
	connections, waiting, received, stopping := 0, 0, uint64(0), true
	for _, r := range servers {
		a := r.server.activity()
		connections += a.connections
		waiting += a.waiting
		received += a.received
		stopping = stopping && r.server.isStopping()
	}
	var rate float64
	if elapsed := now.Sub(d.lastAt).Seconds(); elapsed > 0 && received >= d.lastReceived {
		rate = float64(received-d.lastReceived) / elapsed
	}
	d.lastReceived, d.lastAt = received, now
	text := fmt.Sprintf("%s, %.0f messages/s, %s waiting", plural(connections, "connection"), rate, byteCount(waiting))
	if stopping {
		text = "stopping: " + text
	}
	if text != d.lastStatus {
		d.lastStatus = text
		s.send("STATUS=" + text)
	}
}

// extend asks for more time to stop, as long as that gets on.
func (s *notifier) extend(d *schedule, servers []*registration) {
	now := time.Now()
	if now.Before(d.nextExtend) {
		return
	}
	progress, stopping, patience := uint64(0), false, stopExtension
	for _, r := range servers {
		if r.server.isStopping() {
			stopping = true
			progress += r.server.activity().progress
			patience = max(patience, stopExtension+d.handlerTimeout(r))
		}
	}
	if !stopping {
		return
	}
	d.nextExtend = now.Add(extendInterval)
	if progress != d.lastProgress {
		d.lastProgress = progress
		s.send("EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(patience.Microseconds(), 10))
	}
}

// An activity is what a server does.
type activity struct {
	connections int
	waiting     int    // Bytes in the sockets that were not read yet.
	received    uint64 // Messages.
	progress    uint64 // Something else whenever anything has gone on.
}

func plural(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return strconv.Itoa(n) + " " + of + "s"
}

// byteCount is n for people.
func byteCount(n int) string {
	switch {
	case n < 1000:
		return strconv.Itoa(n) + " B"
	case n < 1_000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}
