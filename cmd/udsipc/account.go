// SPDX-License-Identifier: Apache-2.0

package main

// This file is what send tells at its end: the exit code and the last line.

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/spool"
)

// report writes what has gone wrong and the last line, and returns the exit code.
func (s *sending) report(err error) int {
	c, total := s.out.counts(), s.messages.Load()
	c.unread = min(s.unread, c.arrived)
	c.arrived -= c.unread
	all := err == nil && c.missing() == 0 && c.queued == 0 && s.skipped == 0 && !s.cut && c.arrived >= total
	if all && s.flags.quiet {
		return exitOK
	}
	switch {
	case s.gaveUp.Load():
		s.env.logf("gave up: nothing has arrived for %v%s", s.flags.timeout, s.whyGaveUp())
	case err != nil && !errors.Is(err, spool.ErrLeft) && !s.isInAccount(err, c):
		s.env.logf("%s", plain(err))
	}
	s.env.logf("%s", s.account(c, total))
	switch {
	case all:
		return exitOK
	case s.flags.spool != "" && c.missing() == 0 && s.skipped == 0 && !s.cut && c.queued > 0 && spooled(err):
		return exitSpooled
	}
	return exitFailed
}

// isInAccount reports whether an error says no more than the last line and the log: that this side was stopped, with
// messages that are given up or perhaps lost.
func (s *sending) isInAccount(err error, c counts) bool {
	return errors.Is(err, udsipc.ErrStopped) && (c.possiblyLost > 0 || c.undelivered > 0) && s.env.force.Err() == nil
}

// whyGaveUp returns what is known about why nothing has arrived.
func (s *sending) whyGaveUp() string {
	if s.connected.Load() {
		return ""
	}
	return "; there is no connection: udsipc doctor " + s.env.args[0] + " tells more"
}

// spooled reports whether the error of a run with a spool is no more than that messages are left in it.
func spooled(err error) bool {
	return err == nil || errors.Is(err, spool.ErrLeft)
}

// account returns the last line.
func (s *sending) account(c counts, total uint64) string {
	total += c.found
	elapsed := time.Since(s.began)
	text := fmt.Sprintf("all of %s arrived", plural(total, "message"))
	switch {
	case c.arrived < total:
		text = fmt.Sprintf("%d of %s arrived", c.arrived, plural(total, "message"))
	case total == 0:
		text = "no messages"
	}
	text += fmt.Sprintf(" (%s in %s)", formatBytes(float64(s.bytes.Load())), elapsed.Round(time.Millisecond))
	var more []string
	for _, part := range []struct {
		n    uint64
		what string
	}{
		{c.found, "of them found in the spool"}, {c.possiblyLost, "possibly lost"}, {c.unread, "perhaps not read"},
		{c.undelivered, "given up"}, {c.dropped, "dropped as the oldest"},
		{c.refused, "dropped as the newest"}, {c.expired, "expired"}, {c.damaged, "damaged in the spool"},
		{s.skipped, "lines left out as too long"}, {c.queued, s.queuedWhere()},
	} {
		if part.n > 0 {
			more = append(more, fmt.Sprintf("%d %s", part.n, part.what))
		}
	}
	if s.cut {
		more = append(more, "the input had more")
	}
	if len(more) == 0 {
		return text
	}
	return text + "; " + strings.Join(more, ", ")
}

func (s *sending) queuedWhere() string {
	if s.flags.spool != "" {
		return "in the spool"
	}
	return "left in the queue"
}
