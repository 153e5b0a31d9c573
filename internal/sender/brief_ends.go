// SPDX-License-Identifier: Apache-2.0

package sender

// This file sums up connections that end again and again right after they began: their cause is
// reported once, and then in growing intervals.

import (
	"fmt"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

const (
	// A connection that lasted for briefLife is not brief.
	briefLife = transport.ResetBackoffAfter
	// suspiciousEnds is the number of brief connections in a row that a peer must end without a word,
	// before their messages count as possibly lost although the peer has read them.
	suspiciousEnds = 2
	// The intervals of reports grow from the first to the last one, by a factor.
	firstReportInterval  = time.Second
	lastReportInterval   = 10 * time.Minute
	reportIntervalFactor = 4
)

// briefEnds are the brief connections in a row that ended for the same reason. A peer that ends
// connections without a goodbye is no Reader, or a Reader that is killed again and again.
type briefEnds struct {
	reason   wire.CloseReason
	silent   bool          // Ended without a goodbye.
	count    uint64        // Connections.
	messages uint64        // Messages that were sent on them.
	lived    time.Duration // How long the last one lasted.

	uncounted uint64 // Recent messages of silent ends that do not count as possibly lost, because they were read.
	lost      uint64 // Possibly lost messages that were not reported yet.
	cause     error  // Of the last end.
	untold    bool   // There was an end since the last report.

	lastReport time.Time     // Zero before the first report.
	interval   time.Duration // From one report to the next.
	timer      *time.Timer   // Wakes the loop for the next report; nil if there is none.
}

// continues reports whether end is one more of the same kind.
func (b *briefEnds) continues(end transport.Outcome) bool {
	healthy := !end.Silent && end.Reason == wire.CloseOrderly && end.Lost == 0
	return !healthy && end.Lived < briefLife && b.silent == end.Silent && (b.silent || b.reason == end.Reason)
}

// add adds the end of a connection. It returns how many messages count as possibly lost now.
func (b *briefEnds) add(end transport.Outcome) (lost uint64) {
	lost = end.Lost
	b.reason, b.silent, b.lived, b.cause = end.Reason, end.Silent, end.Lived, end.Cause
	b.count++
	b.messages += end.Messages
	if b.silent {
		b.uncounted += end.Recent - min(end.Recent, end.Lost)
		if b.isSuspicious() {
			lost += b.uncounted
			b.uncounted = 0
		}
	}
	b.lost += lost
	b.untold = true
	return lost
}

// isSuspicious reports whether the peer has ended several brief connections in a row without a
// goodbye.
func (b *briefEnds) isSuspicious() bool { return b.silent && b.count >= suspiciousEnds }

// isPending reports whether there is something to report.
func (b *briefEnds) isPending() bool {
	return b.untold && (b.lost > 0 || b.isSuspicious() || !b.silent && b.isRejected())
}

// isRejected reports whether the reader has rejected this side, or has ended several brief connections
// in a row for a reason that nothing else reports. One of a later version is such a reason.
func (b *briefEnds) isRejected() bool {
	switch b.reason {
	case wire.CloseOrderly, wire.CloseTooLarge:
		return false
	}
	return b.reason.RejectsPeer() || b.count >= suspiciousEnds
}

// take returns what to report, and sets the interval to the next report.
func (b *briefEnds) take(now time.Time) (op string, err error) {
	op, err = errdefs.OpDial, b.err()
	if b.lost > 0 {
		op, err = errdefs.OpWrite, &errdefs.PossibleLoss{Messages: b.lost, Err: err}
	}
	b.lost, b.untold = 0, false
	if b.timer != nil {
		b.timer.Stop() // Else it would keep the queue in memory after Stop.
		b.timer = nil
	}
	if b.interval = min(b.interval*reportIntervalFactor, lastReportInterval); b.lastReport.IsZero() {
		b.interval = firstReportInterval
	}
	b.lastReport = now
	return op, err
}

// err returns the cause, with the counts.
func (b *briefEnds) err() error {
	lived := b.lived.Round(time.Microsecond)
	switch {
	case b.silent && b.count == 1:
		return fmt.Errorf("the peer ended the connection %v after it began, without a goodbye; "+
			"%d messages had been sent on it: %w", lived, b.messages, b.cause)
	case b.silent:
		return fmt.Errorf("the peer ended %d connections in a row without a goodbye, the last one %v after it began; "+
			"%d messages had been sent on them; is it no Reader, or killed again and again? %w",
			b.count, lived, b.messages, b.cause)
	case b.reason == wire.CloseOrderly:
		return fmt.Errorf("the reader closed the connection and has not handled them: %w", b.cause)
	case b.count == 1:
		return b.cause
	}
	return fmt.Errorf("%w; %d connections in a row, the last one for %v; %d messages had been sent on them",
		b.cause, b.count, lived, b.messages)
}
