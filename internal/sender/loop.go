// SPDX-License-Identifier: Apache-2.0

// Package sender sends the messages of a queue over connections. A Loop, for a Writer, is a
// goroutine that connects, sends, reconnects, and accounts for each connection that ends. An
// Inline, for a Conn, has no goroutine that waits: the goroutine that finds the queue idle writes.
// Neither uses options or callbacks of the program.
package sender

// This file has the send loop and its counters. connect.go makes its connections, send.go sends the
// queue, session.go does so in a session, disconnect.go accounts for ended connections, and stop.go
// ends the loop.

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// A Config has the settings of a Loop.
type Config struct {
	Queue *queue.Queue
	// Dial returns a connection that is ready for messages: authorized, and with TLS if that is
	// used.
	Dial             func(ctx context.Context) (net.Conn, error)
	Writer           wire.WriterID // The ID in all session hellos.
	Epoch            uint64        // Of the first hello, from 1; 0 is the same as 1.
	First            uint64        // The number of the queue's first message, from 1; 0 is the same as 1.
	Acks             bool
	MessageLimit     uint64 // The largest message, in bytes.
	WriteTimeout     time.Duration
	MaxBackoff       time.Duration
	HeartbeatTimeout time.Duration // Of sessions, except on a plain Unix socket; 0: none.
	DropOldest       bool          // The queue drops messages to make room.
	MaxAge           time.Duration // The queue drops older messages; 0: never.
	// Handled gets the number of the last message that was handled or given up, whenever it grows; may be nil.
	Handled func(number uint64)
}

// Events are the callbacks of a Loop. Its goroutine calls them in sequence; Stop may call them too.
type Events struct {
	State       func(state State, cause error)
	Report      func(op string, err error)
	Undelivered func(data []byte) // Receives each message that is given up; may be nil.
}

// A Loop is a goroutine that sends a queue over one connection after the other. The next connection
// sends again each message that was not written whole or, in a session, not acknowledged.
type Loop struct {
	cfg     Config
	events  Events
	queue   *queue.Queue
	life    *Lifecycle
	counts  loopCounters
	lone    loneClock
	handled handledCalls
	turn    turn
	left    func(data []byte) // Receives each message that is left when a Stop ends; may be nil.
	// Called when another process has the identity of the writer; may be nil.
	contested func()
	limit     atomic.Uint64 // The largest message that this side and, in a session, the reader accept.

	// Used by the goroutine only.
	bufs      [][]byte
	headRetry retryCounter // Counts failures with the first message.
	brief     briefEnds    // Connections that ended right after they began.
	// Connections in a row that the peer has ended cleanly without a welcome.
	noWelcomes int

	connectRequested atomic.Bool   // Connect also without a message.
	epoch            atomic.Uint64 // Of the last hello. Written by the goroutine.

	mu           sync.Mutex     // Guards what follows.
	current      *transport.Out // The connection that Flush polls; nil if there is none.
	handshaking  *transport.Out // The connection whose session handshake is in progress, or nil.
	unreadAtStop uint64         // Messages that the peer had not read at a forced stop.

	reported reported
}

// loopCounters are the counters of a loop; the queue has its own.
type loopCounters struct {
	connections, lostConnections, dialErrors         atomic.Uint64
	writes, writtenBytes, backpressure, possiblyLost atomic.Uint64
}

// loopCounts are a snapshot of the counters. Each is read by itself.
type loopCounts struct {
	Connections     uint64 // Made.
	LostConnections uint64 // Failed, or closed by the peer.
	DialErrors      uint64 // Attempts that failed.
	Writes          uint64
	WrittenBytes    uint64
	Backpressure    uint64 // Writes that waited longer than the write timeout.
	PossiblyLost    uint64 // Upper bound of the messages that were sent but not read.
}

// New returns a loop that has not started.
func New(cfg Config, events Events) *Loop {
	l := &Loop{
		cfg:    cfg,
		events: events,
		queue:  cfg.Queue,
		life:   NewLifecycle(cfg.MaxBackoff, events.State),
		bufs:   make([][]byte, 0, transport.MaxVector),
	}
	l.left = events.Undelivered
	l.lone.began = time.Now()
	l.epoch.Store(max(cfg.Epoch, 1) - 1)
	l.handled.told = max(cfg.First, 1) - 1
	l.limit.Store(cfg.MessageLimit)
	cfg.Queue.OnIdle(l.wake)
	cfg.Queue.OnTurn(l.takeTurn)
	return l
}

// Start starts the goroutine and returns at once. It may be called again; after Stop it returns
// ErrStopped.
func (l *Loop) Start() error { return l.life.Start(l.run) }

// KeepLeft is for a program that keeps its messages elsewhere: nobody receives those that are left when a
// Stop ends. setAside is called for each that is given up, before its number is handled. contested is
// called when a reader knows of a later attempt of this writer, or of messages that it has not: another
// process has the same identity. KeepLeft must be called before Start.
func (l *Loop) KeepLeft(setAside, contested func()) {
	l.contested = contested
	undelivered := l.events.Undelivered
	l.left = nil
	l.events.Undelivered = func(data []byte) {
		setAside()
		if undelivered != nil {
			undelivered(data)
		}
	}
}

// Ended returns a channel that is closed when the goroutine has ended: after Stop, or if a callback has called
// Goexit.
func (l *Loop) Ended() <-chan struct{} { return l.life.Done() }

// Why returns why there is no connection, or nil.
func (l *Loop) Why() error { return l.life.Why() }

// Away returns why the last attempt to connect has failed, or nil if there was none since the last connection.
func (l *Loop) Away() error { return l.life.Away() }

// MessageLimit returns the size of the largest message that this side and the current reader
// accept.
func (l *Loop) MessageLimit() uint64 { return l.limit.Load() }

// Awaits notes what Dial waits for, until over is called.
func (l *Loop) Awaits(what error) (over func()) { return l.life.Awaits(what) }

// Connected reports whether there is a connection.
func (l *Loop) Connected() bool { return l.life.State() == StateConnected }

// WaitConnected waits until there is a connection, and makes an idle loop connect. The error is ErrStopped after Stop,
// and matches ErrNotConnected if ctx ends first.
func (l *Loop) WaitConnected(ctx context.Context) error {
	return l.life.WaitConnected(ctx, func() {
		l.connectRequested.Store(true)
		l.queue.Signal()
	})
}

// EndedOutage is that of the Lifecycle.
func (l *Loop) EndedOutage() (ended Outage, reported bool) { return l.life.EndedOutage() }

// Snapshot returns the counters.
func (l *Loop) Snapshot() loopCounts {
	return loopCounts{
		Connections:     l.counts.connections.Load(),
		LostConnections: l.counts.lostConnections.Load(),
		DialErrors:      l.counts.dialErrors.Load(),
		Writes:          l.counts.writes.Load(),
		WrittenBytes:    l.counts.writtenBytes.Load(),
		Backpressure:    l.counts.backpressure.Load(),
		PossiblyLost:    l.counts.possiblyLost.Load(),
	}
}
