// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file has the kinds of lines, and which errors they sum up.

import (
	"errors"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/sender"
)

// An eventKind is a kind of lines. Events of one kind share a line.
type eventKind int

const (
	eventNone eventKind = iota
	eventAway
	eventBack
	eventKept
	eventRejected
	eventLoss
	eventDropped
	eventExpired
	eventSetAside
	eventLeft
	eventStopWaits
	eventUnauthorized
	eventHandshake
	eventTooMany
	eventSession
	eventInput
	eventStalled
	eventSilent
	eventUnanswered
	eventHandler
	eventDeadLetter
	eventDamaged
	eventSpool
	eventAccept
	eventEnded
	eventSystemd
	eventPublish
	eventOther
	eventKinds
)

// An eventLine is how a kind is logged.
type eventLine struct {
	text    string
	counts  string // The name of the sum; empty: it is not said.
	isError bool
	waiting bool // How many messages wait is said.
}

var eventLines = [eventKinds]eventLine{
	eventAway:         {text: "cannot connect", waiting: true},
	eventBack:         {text: "connected again", waiting: true},
	eventKept:         {text: "stopped; messages stay on the disk for the next start", counts: "messages"},
	eventRejected:     {text: "the peer ends the connections", counts: "times", waiting: true},
	eventLoss:         {text: "messages may be lost", counts: "messages"},
	eventDropped:      {text: "the queue is full: the oldest messages were dropped", counts: "messages"},
	eventExpired:      {text: "messages have expired", counts: "messages"},
	eventSetAside:     {text: "gave up messages that the reader refuses", counts: "messages", isError: true},
	eventLeft:         {text: "stopped before everything was delivered", counts: "messages", isError: true},
	eventStopWaits:    {text: "Stop waits, and its context has no deadline", waiting: true},
	eventUnauthorized: {text: "refused peers that are not authorized", counts: "times"},
	eventHandshake:    {text: "refused peers: TLS handshake failed", counts: "times"},
	eventTooMany:      {text: "refused peers: too many connections", counts: "times"},
	eventSession:      {text: "refused an acknowledged session", counts: "times"},
	eventInput:        {text: "refused input", counts: "times"},
	eventStalled:      {text: "closed connections whose peer does not read", counts: "times"},
	eventSilent:       {text: "closed connections whose peer is silent", counts: "times"},
	eventUnanswered:   {text: "the peer does not answer yet", counts: "times", waiting: true},
	eventHandler:      {text: "handler failed", counts: "times"},
	eventDeadLetter:   {text: "gave up messages whose handler fails: dead letters", counts: "messages"},
	eventDamaged:      {text: "messages on the disk cannot be read", counts: "messages", isError: true},
	eventSpool:        {text: "trouble with the queue on disk", counts: "times", isError: true},
	eventAccept:       {text: "failed to accept connections", counts: "times"},
	eventEnded:        {text: "accepts no more connections: gave up", isError: true},
	eventSystemd:      {text: "trouble with systemd", counts: "times"},
	eventPublish:      {text: "cannot publish the metrics", counts: "times"},
	eventOther:        {text: "failed", counts: "times"},
}

// noteEvents are the kinds of the notes.
var noteEvents = map[errdefs.NoteKind]eventKind{
	errdefs.NoteDropped: eventDropped, errdefs.NoteExpired: eventExpired, errdefs.NoteSetAside: eventSetAside,
	errdefs.NoteLeft: eventLeft, errdefs.NoteDeadLetter: eventDeadLetter, errdefs.NoteDiscarded: eventLoss,
	errdefs.NoteDamaged: eventDamaged,
	errdefs.NoteEnded:   eventEnded, errdefs.NoteRejected: eventRejected, errdefs.NoteStalled: eventStalled,
}

// eventOf returns the kind of an error, or eventNone, and what it adds to the sum.
func eventOf(e *OpError) (kind eventKind, count uint64) {
	switch err := e.Err.(type) { // Not what it wraps: that may be an error of another Writer.
	case *errdefs.Note:
		return noteEvents[err.Kind], err.Messages
	case *PossibleLossError:
		return eventLoss, err.Messages
	case *sender.Outage:
		if err.Away == 0 {
			return eventNone, 0 // The first attempts. A peer that restarts is no event.
		}
		return eventAway, 1
	case *sender.StopWaits:
		return eventStopWaits, 1
	}
	return eventOfOp(e.Op, func(sentinel error) bool { return errors.Is(e.Err, sentinel) }), 1
}

// eventOfOp is eventOf for an error without a type of its own.
func eventOfOp(op string, is func(sentinel error) bool) eventKind {
	switch op {
	case OpHandle:
		return eventHandler
	case OpDial:
		return eventRejected
	case OpAuthorize:
		return eventUnauthorized
	case OpHandshake:
		return eventHandshake
	case OpOpenSession:
		switch {
		case is(ErrHeartbeatTimeout):
			return eventSilent
		case is(ErrBackpressure):
			return eventUnanswered
		}
		return eventSession
	case OpWrite:
		if is(ErrBackpressure) {
			return eventNone // Slow is not gone.
		}
	case OpStop:
		if is(ErrBackpressure) {
			return eventStalled
		}
	case OpRead:
		if is(ErrBackpressure) {
			return eventStalled
		}
		if is(ErrConnectionClosed) || is(ErrHeartbeatTimeout) {
			return eventNone // Connections end.
		}
		return eventInput
	case OpAccept:
		if is(ErrTooManyConnections) {
			return eventTooMany
		}
		return eventAccept
	case OpSpool:
		return eventSpool
	case OpNotify, OpWatchdog, OpHandOver, OpActivate:
		return eventSystemd
	case OpPublish:
		return eventPublish
	}
	return eventOther
}

// An eventSum adds up the events of a kind until their line is due.
type eventSum struct {
	events int // Since the last line.
	count  uint64
	last   *OpError // Of the last event.
	due    time.Time

	lines int       // In a row: each delays the next one longer.
	until time.Time // How long the last one delays the next.
}

// quietTime is how long there must be no event before lines follow each other quickly again.
const quietTime = 15 * time.Minute

// add adds an event.
func (s *eventSum) add(count uint64, e *OpError, now time.Time) {
	if s.events == 0 {
		if now.Sub(s.until) >= quietTime {
			s.lines = 0
		}
		s.due = now
		if s.lines > 0 && s.until.After(now) {
			s.due = s.until
		}
	}
	s.events++
	s.count += count
	s.last = e
}

// take empties the sum for a line that is written now, and returns what it was.
func (s *eventSum) take(now time.Time) eventSum {
	taken := *s
	s.until = now.Add(sender.ReportStep(s.lines))
	*s = eventSum{lines: s.lines + 1, until: s.until}
	return taken
}
