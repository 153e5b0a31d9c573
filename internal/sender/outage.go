// SPDX-License-Identifier: Apache-2.0

package sender

// This file has what is known while there is no connection: why, since when, and how many attempts
// have failed. Not every attempt is reported.

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/transport"
)

// reportSteps are the times after which something that goes on is reported again. The last one
// repeats.
var reportSteps = [...]time.Duration{time.Second, 10 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute}

// reportTime returns when something is reported again that goes on since the time 0, after n reports.
func reportTime(n int) time.Duration {
	last := len(reportSteps) - 1
	return reportSteps[min(n, last)] + time.Duration(max(0, n-last))*reportSteps[last]
}

// ReportStep returns how long nothing is reported after n reports of things that happen again and again.
func ReportStep(n int) time.Duration { return reportSteps[min(n, len(reportSteps)-1)] }

// maxCauses is the number of causes of one outage that are reported at once, each when it is new.
const maxCauses = 4

// An outage is a time of failed attempts to connect.
type outage struct {
	attempts int
	since    time.Time
	reports  int      // That were due because of the time.
	reported int      // Attempts, by BriefEnd.
	causes   []string // Texts of the causes that were reported, without digits.
}

// An Outage reports that there is no connection.
type Outage struct {
	Attempts int           // That have failed.
	Away     time.Duration // 0 in the report of a cause that is new, which comes at once.
	Err      error         // Of the last attempt.
}

func (o *Outage) Error() string {
	if o.Away == 0 {
		return o.Err.Error()
	}
	return fmt.Sprintf("%v (still, after %d attempts in %v)", o.Err, o.Attempts, o.Away.Round(time.Second))
}

// Unwrap returns the error of the last attempt.
func (o *Outage) Unwrap() error { return o.Err }

// fail counts an attempt that failed with err. It returns the report of it, or nil: the first error and
// each new one are reported, and what goes on in growing steps.
func (o *outage) fail(err error, now time.Time) *Outage {
	if o.attempts++; o.attempts == 1 {
		o.since = now
	}
	away, text := now.Sub(o.since), strings.Map(withoutDigits, err.Error())
	due := away >= reportTime(o.reports)
	for away >= reportTime(o.reports) {
		o.reports++
	}
	isNew := !slices.Contains(o.causes, text) && len(o.causes) < maxCauses
	if isNew {
		o.causes = append(o.causes, text)
	}
	switch {
	case due:
		return &Outage{Attempts: o.attempts, Away: away, Err: err}
	case isNew:
		return &Outage{Attempts: o.attempts, Err: err}
	}
	return nil
}

// withoutDigits drops digits: they tell one attempt from the other, not one cause.
func withoutDigits(r rune) rune {
	if r >= '0' && r <= '9' {
		return -1
	}
	return r
}

// AttemptFailed counts an attempt to connect that failed, and keeps its error for Why. It returns
// the error to report, or nil. The goroutine calls it.
func (l *Lifecycle) AttemptFailed(err error) (report error) {
	l.attemptFailed()
	e, wrapped := err.(*errdefs.Error)
	if wrapped {
		err = e.Err
	}
	l.mu.Lock()
	l.lastErr = err
	if !l.failed {
		l.failed = true
		close(l.changed) // For WaitAttempt.
		l.changed = make(chan struct{})
	}
	l.mu.Unlock()
	switch outage := l.outage.fail(err, time.Now()); {
	case outage == nil:
		return nil
	case wrapped:
		return &errdefs.Error{Op: e.Op, Addr: e.Addr, Err: outage}
	default:
		return outage
	}
}

// BriefEnd counts a connection of a Link that ended with err. It returns the error to report, or nil, and
// before it how many connections that counts: those that the peer has ended in a row for a second or more,
// right after they began and without a message. The goroutine calls it.
func (l *Lifecycle) BriefEnd(useful bool, lived time.Duration, err error) (count int, report error) {
	if useful || lived >= transport.ResetBackoffAfter {
		l.brief = outage{}
		return 0, nil
	}
	reported := l.brief.reported
	o := l.brief.fail(err, time.Now())
	if o == nil || o.Away == 0 {
		return 0, nil
	}
	l.brief.reported = o.Attempts
	return o.Attempts - reported, fmt.Errorf(
		"the peer has ended %d connections in a row, the last one %v after it began: %w",
		o.Attempts, lived.Round(time.Microsecond), err)
}

// EndedOutage returns the outage that the present connection has ended, if it lasted long enough to
// be reported as one. Only the callback of StateConnected may call it.
func (l *Lifecycle) EndedOutage() (ended Outage, reported bool) {
	return l.endedOutage, l.endedOutage.Attempts > 0
}

// noteStateLocked keeps what Why and EndedOutage return. before is the state until now.
func (l *Lifecycle) noteStateLocked(before, state State, cause error) {
	if before == StateConnected && l.isProvenLocked() {
		l.lastErr = nil // It is older than the connection.
	}
	switch state {
	case StateConnected:
		l.endedOutage = Outage{}
		if o := &l.outage; o.reports > 0 {
			l.endedOutage = Outage{Attempts: o.attempts, Away: time.Since(o.since), Err: l.lastErr}
		}
		if l.failed {
			l.lastErr = nil // An attempt has succeeded. That a peer ends connections is not refuted yet.
		}
		l.outage = outage{}
		l.connectedAt, l.failed = time.Now(), false
	case StateDisconnected:
		if e, ok := cause.(*errdefs.Error); ok {
			cause = e.Err
		}
		l.lastErr = cause
	}
}

// awaitsLong is how long an attempt waits before that says more than the error of the last one.
const awaitsLong = 100 * time.Millisecond

// Awaits notes what the present attempt waits for, until the caller calls over. A peer may accept the
// connection and say nothing. What a forced stop has interrupted remains, for StopCause.
func (l *Lifecycle) Awaits(what error) (over func()) {
	note := func(what error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.awaits, l.awaitsSince = what, time.Now()
	}
	note(what)
	return func() {
		if !l.Forced() {
			note(nil)
		}
	}
}

// Why returns why there is no connection that has proved itself: ErrNotStarted, what the present attempt
// waits for, or the error of the last attempt or of the last connection. It returns nil if there is nothing
// to say.
func (l *Lifecycle) Why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.started:
		return errdefs.ErrNotStarted
	case l.awaits != nil && (l.lastErr == nil || time.Since(l.awaitsSince) >= awaitsLong):
		return l.awaits
	case l.current == StateConnected && l.isProvenLocked():
		return nil
	}
	return l.lastErr
}

// Away returns the error of the last attempt to connect, if one has failed since the last connection, or nil.
func (l *Lifecycle) Away() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.failed {
		return nil
	}
	return fmt.Errorf("%w: %w", errdefs.ErrNotConnected, l.lastErr)
}

// isProvenLocked reports whether the present connection has lasted long enough to prove that the peer
// accepts this side.
func (l *Lifecycle) isProvenLocked() bool {
	return time.Since(l.connectedAt) >= transport.ResetBackoffAfter
}

// Explain returns the error of a wait that its context has ended: with Why, if that is known.
func (l *Lifecycle) Explain(ctx context.Context) error { return l.explain(errdefs.EndOf(ctx)) }

func (l *Lifecycle) explain(cause error) error {
	if why := l.Why(); why != nil {
		return fmt.Errorf("%w; %w", why, cause)
	}
	return cause
}

// WaitingErr returns the error of a wait for the messages of q that ended with cause: how many
// there are, and Why.
func (l *Lifecycle) WaitingErr(q *queue.Queue, cause error) error {
	counts, _ := q.Snapshot()
	return fmt.Errorf("%s: %w", errdefs.CountIs(counts.Queued, "waits", "wait"), l.explain(cause))
}

// StopCause returns why a stop leaves messages behind: its context, with Why, or ErrNotStarted.
func (l *Lifecycle) StopCause(ctx context.Context) error {
	cause := errdefs.EndOf(ctx)
	if why := l.Why(); cause == nil && why == errdefs.ErrNotStarted {
		return why
	} else if cause == nil {
		cause = fmt.Errorf("%w by another call, whose context ended", errdefs.ErrStopped)
	}
	return l.explain(cause)
}
