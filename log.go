// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file writes the lines of a log: which logger, when, and with what. log_events.go says which error is which line.

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/sender"
)

// WithLogger sets the logger for what an operator must know. By default it is slog.Default, looked up
// for each line. With an error callback it is none: the callback gets these errors. WithLogger and a
// callback both get them. slog.New(slog.DiscardHandler) is silent; nil is an error. A Conn of Dial
// logs nothing.
//
// It is a warning if a peer is away for a second or more, accepts a session and does not answer, or
// ends connections again and again; if messages may be lost, are dropped or expire; if a peer or
// its input is refused, a handler fails, a message is a dead letter, or Stop waits without a
// deadline. It is an error if messages are given up or a Reader no longer accepts, and an
// information if a peer that was away is back. An idle Writer needs no peer, and does not look for
// it. The attributes are address, peer, err, and counts. A line of one kind is written at once; the
// next follow after 1 s, 10 s, 1 min, 5 min, and then 15 min each, with the sum of what happened in
// between.
//
// The logger is called on a goroutine of its own, one call at a time: it delays no message, and may
// write to the Writer that it logs for. It must not panic. Stop waits for the last lines, for a second
// at most, and not once its context has ended.
func WithLogger(logger *slog.Logger) Option {
	return bothOption(func(c *sharedConfig) { c.logging = logConfig{logger, true} })
}

// A logConfig is the value of WithLogger.
type logConfig struct {
	logger *slog.Logger // nil: slog.Default.
	set    bool
}

// How long a Stop waits for the last lines: while its context goes on, and afterwards.
const (
	logGrace       = time.Second
	logForcedGrace = 20 * time.Millisecond
)

// An eventLog passes on the errors that no caller receives: to the error callback at once, and to the
// logger in sums. Nothing of it is held while a line is written.
type eventLog struct {
	addr     string
	callback ErrorCallback
	logging  logConfig
	waiting  func() uint64 // Messages in the queue; nil: there is none.
	reported atomic.Uint64 // Calls of report with an error.

	mu       sync.Mutex // Guards what follows.
	sums     [eventKinds]eventSum
	timer    *time.Timer
	writing  bool          // A goroutine writes lines, and looks for more when it is done.
	flushing bool          // What is there is written now, whatever has been written before.
	idle     chan struct{} // Closed when nothing is left to write; nil: nobody waits for that.
}

func newEventLog(addr string, callback ErrorCallback, logging logConfig) *eventLog {
	return &eventLog{addr: addr, callback: callback, logging: logging}
}

// report passes on an error. about is the address, or the peer.
func (l *eventLog) report(op, about string, err error) {
	if err == nil {
		return
	}
	l.reported.Add(1)
	e := asOpError(op, about, err).(*OpError)
	l.note(e)
	if l.callback != nil {
		l.callback(e, opWords[e.Op])
	}
}

// note has an error logged, if it is an event.
func (l *eventLog) note(e *OpError) {
	if kind, count := eventOf(e); kind != eventNone {
		l.add(kind, count, e)
	}
}

// connected has the end of an outage logged, if its beginning was.
func (l *eventLog) connected(ended sender.Outage, reported bool) {
	if reported {
		l.add(eventBack, 0, &OpError{Op: OpDial, Addr: l.addr, Err: &ended})
	}
}

// stopped has it logged if the error of a Stop says that messages are left, and waits for the last lines.
func (l *eventLog) stopped(ctx context.Context, err error) error {
	if note := leftNote(err); note != nil {
		l.add(eventLeft, note.Messages, err.(*OpError))
	}
	l.flush(ctx)
	return err
}

// watchStop reports that a Stop waits without a deadline, until ended is called. what returns for what.
func watchStop(ctx context.Context, report func(err error), what func() string) (ended func()) {
	return sender.WatchStop(ctx, report, func() *sender.StopWaits { return &sender.StopWaits{What: what()} })
}

// leftNote returns the Note that the error of a Stop begins with, or nil. One behind it is of another
// Stop, whose error is the cause of the context.
func leftNote(err error) *errdefs.Note {
	for {
		switch e := err.(type) {
		case *errdefs.Note:
			return e
		case *OpError:
			err = e.Err
		case interface{ Unwrap() []error }:
			err = e.Unwrap()[0]
		default:
			return nil
		}
	}
}

// add has an event logged.
func (l *eventLog) add(kind eventKind, count uint64, e *OpError) {
	if l.callback != nil && !l.logging.set {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if kind == eventAway {
		l.sums[eventBack].events = 0 // It is away again.
	}
	s, away := &l.sums[kind], &l.sums[eventAway]
	if s.add(count, e, time.Now()); kind == eventBack && away.events > 0 && s.due.Before(away.due) {
		s.due = away.due // It follows the line that it ends.
	}
	l.armLocked()
}

// armLocked has write called when the next line is due.
func (l *eventLog) armLocked() {
	if l.writing {
		return
	}
	due := time.Time{}
	for i := range l.sums {
		if s := &l.sums[i]; s.events > 0 && (due.IsZero() || s.due.Before(due)) {
			due = s.due
		}
	}
	if due.IsZero() {
		if l.flushing = false; l.idle != nil {
			close(l.idle)
			l.idle = nil
		}
		return
	}
	wait := max(0, time.Until(due))
	if l.flushing {
		wait = 0
	}
	if l.timer == nil {
		l.timer = time.AfterFunc(wait, l.write) // A flush at Stop ends it.
	} else {
		l.timer.Reset(wait)
	}
}

// write writes the lines that are due.
func (l *eventLog) write() {
	l.mu.Lock()
	if l.writing {
		l.mu.Unlock()
		return
	}
	l.writing = true
	l.mu.Unlock()
	defer func() { // Also if the handler ends the goroutine.
		l.mu.Lock()
		defer l.mu.Unlock()
		l.writing = false
		l.armLocked()
	}()
	for {
		kind, sum, ok := l.next()
		if !ok {
			return
		}
		l.writeLine(kind, &sum)
	}
}

// next takes the first sum that is due.
func (l *eventLog) next() (kind eventKind, sum eventSum, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for i := range l.sums {
		if s := &l.sums[i]; s.events > 0 && (l.flushing || !now.Before(s.due)) {
			return eventKind(i), s.take(now), true
		}
	}
	return 0, eventSum{}, false
}

// flush writes what is left, and waits for it, at most logGrace.
func (l *eventLog) flush(ctx context.Context) {
	l.mu.Lock()
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	idle := l.idle
	l.flushing = true
	l.armLocked()
	l.mu.Unlock()
	grace := time.NewTimer(logGrace)
	defer grace.Stop()
	select {
	case <-idle:
		return
	case <-grace.C:
		return
	case <-ctx.Done():
	}
	grace.Reset(logForcedGrace)
	select {
	case <-idle:
	case <-grace.C:
	}
}

// writeLine calls the logger.
func (l *eventLog) writeLine(kind eventKind, s *eventSum) {
	logger := l.logging.logger
	if logger == nil {
		logger = slog.Default()
	}
	line := &eventLines[kind]
	level := slog.LevelWarn
	switch {
	case line.isError:
		level = slog.LevelError
	case kind == eventBack, kind == eventKept:
		level = slog.LevelInfo
	}
	ctx := context.Background()
	if !logger.Enabled(ctx, level) {
		return
	}
	attrs := append(make([]slog.Attr, 0, 8), slog.String("address", l.addr))
	if peer, ok := strings.CutPrefix(s.last.Addr, l.addr+", "); ok {
		attrs = append(attrs, slog.String("peer", peer))
	}
	if s.last.Op == OpSpool {
		attrs = append(attrs, slog.String("spool", s.last.Addr)) // One address may have the spools of many processes.
	}
	attrs = append(attrs, l.counts(line, s)...)
	if kind != eventBack {
		attrs = append(attrs, slog.Any("err", lineError{s.last}))
	}
	logger.LogAttrs(ctx, level, "udsipc: "+line.text, attrs...)
}

// A lineError is the cause of an OpError, for a line that has the address.
type lineError struct{ e *OpError }

func (e lineError) Error() string { return e.e.causeText() }

func (e lineError) Unwrap() error { return e.e.Err }

// counts returns the numbers of a line.
func (l *eventLog) counts(line *eventLine, s *eventSum) (attrs []slog.Attr) {
	if line.counts != "" {
		attrs = append(attrs, slog.Uint64(line.counts, s.count))
	}
	cause := s.last.Err
	switch err := cause.(type) { // The numbers are said.
	case *sender.Outage:
		attrs = append(attrs, slog.Int("attempts", err.Attempts), slog.Duration("away", err.Away.Round(10*time.Millisecond)))
		cause = err.Err
	case *sender.StopWaits:
		attrs = append(attrs, slog.Duration("waited", err.Waited.Round(10*time.Millisecond)))
		cause = err.Reason()
	}
	s.last = &OpError{Op: s.last.Op, Addr: s.last.Addr, Err: cause}
	if line.waiting && l.waiting != nil {
		attrs = append(attrs, slog.Uint64("waiting", l.waiting()))
	}
	return attrs
}
