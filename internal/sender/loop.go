// SPDX-License-Identifier: Apache-2.0

// Package sender empties a queue into connections. A Loop, for a Writer, is a goroutine that
// connects, sends, reconnects and accounts for each connection that ends. An Inline, for a Conn,
// has no goroutine that waits: the goroutine that finds the queue idle writes. Both know a queue
// and a connection, and nothing of options or callbacks of the program.
package sender

// This file is a send loop, its parts and its counters. connect.go makes its connections, send.go
// empties the queue into them, session.go does so in a session, disconnect.go accounts for their
// ends, stop.go ends the loop.

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
	// Returns a connection that messages may be sent on: authorized, with TLS.
	Dial             func(ctx context.Context) (net.Conn, error)
	Writer           wire.WriterID // Of all sessions.
	Acks             bool
	MessageLimit     uint64 // In bytes, for one message.
	WriteTimeout     time.Duration
	MaxBackoff       time.Duration
	HeartbeatTimeout time.Duration // Of a session that is not on a bare Unix socket; 0 for none.
	DropOldest       bool          // The queue drops messages to make room.
	MaxAge           time.Duration // The queue drops messages that are older; 0 for never.
}

// Events are the callbacks of a Loop. Its goroutine calls them one after the other; Stop may call them as well.
type Events struct {
	State       func(state State, cause error)
	Report      func(op string, err error)
	Undelivered func(data []byte) // Gets each message that is given up; may be nil.
}

// A Loop is the goroutine that empties a queue into one connection after the other. Messages that a connection has
// not taken to their last byte, or whose acknowledgement it has not brought, go to the next one.
type Loop struct {
	cfg    Config
	events Events
	queue  *queue.Queue
	life   *Lifecycle
	counts loopCounters
	limit  atomic.Uint64 // The largest message, for this side and, in a session, for the reader.

	// The goroutine's own.
	bufs      [][]byte
	headRetry retryCounter // Of the first message, which may be one that no reader accepts.
	epoch     uint64       // Of the last session.

	connectRequested atomic.Bool // Connect without a message as well.

	mu           sync.Mutex     // Guards what follows.
	current      *transport.Out // The connection that Flush polls; nil when there is none.
	handshaking  *transport.Out // A connection before its welcome.
	unreadAtStop uint64         // Messages that the peer had not read yet when a forced stop ended its connection.

	reported reported
}

// loopCounters are the counters of a loop, without those of the queue.
type loopCounters struct {
	connections, lostConnections, dialErrors         atomic.Uint64
	writes, writtenBytes, backpressure, possiblyLost atomic.Uint64
}

// loopCounts are a snapshot of a loop's counters, one by one.
type loopCounts struct {
	Connections     uint64 // Made.
	LostConnections uint64 // Broken, or ended by the peer.
	DialErrors      uint64 // Attempts that failed.
	Writes          uint64
	WrittenBytes    uint64
	Backpressure    uint64 // Writes that waited longer than the write timeout.
	PossiblyLost    uint64 // Upper bound of the messages that were sent and not read.
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
	l.limit.Store(cfg.MessageLimit)
	return l
}

// Start begins to connect and to send, and returns at once. It may be called again; after Stop it returns ErrStopped.
func (l *Loop) Start() error { return l.life.Start(l.run) }

// MessageLimit returns the size of the largest message that both this side and the present reader accept.
func (l *Loop) MessageLimit() uint64 { return l.limit.Load() }

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
