// SPDX-License-Identifier: Apache-2.0

package systemd

// This file sends the status of the servers to systemd, and extends the timeout while stopping
// makes progress.

import (
	"fmt"
	"strconv"
	"time"
)

const (
	stopExtension  = 10 * time.Second // The extension of the stop timeout, plus the limit of a handler.
	extendInterval = time.Second      // The least time between two extensions.
)

// MinStatusInterval is the minimum of WithStatusInterval.
const MinStatusInterval = 100 * time.Millisecond

// status sends the status of the servers if it is due and has changed.
func (s *notifier) status(d *schedule, servers []*Registration) {
	interval := time.Duration(0)
	for _, r := range servers {
		if own := r.cfg.StatusInterval; own > 0 && (interval == 0 || own < interval) {
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
		a := r.server.Activity()
		connections += a.Connections
		waiting += a.Waiting
		received += a.Received
		stopping = stopping && r.server.IsStopping()
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

// extend extends the stop timeout while stopping makes progress.
func (s *notifier) extend(d *schedule, servers []*Registration) {
	now := time.Now()
	if now.Before(d.nextExtend) {
		return
	}
	progress, stopping, extension := uint64(0), false, stopExtension
	for _, r := range servers {
		if r.server.IsStopping() {
			stopping = true
			progress += r.server.Activity().Progress
			extension = max(extension, d.stopTimeout(r))
		}
	}
	if !stopping {
		return
	}
	d.nextExtend = now.Add(extendInterval)
	if progress != d.lastProgress {
		d.lastProgress = progress
		s.send("EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(extension.Microseconds(), 10))
	}
}

// An Activity is a snapshot of what a server does.
type Activity struct {
	Connections int
	Waiting     int    // Unread bytes in the sockets.
	Received    uint64 // Messages.
	Progress    uint64 // Changes whenever there was progress.
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// byteCount formats a number of bytes as text.
func byteCount(n int) string {
	switch {
	case n < 1000:
		return strconv.Itoa(n) + " B"
	case n < 1_000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}
