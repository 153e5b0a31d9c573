// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what a send loop is made of, and how much it has done. connect.go makes its connections, drain.go
// empties the queue into them, drain_session.go does so in a session, sender_disconnect.go accounts for their ends,
// sender_stop.go ends the loop.

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A loopConfig is what a loop needs to know.
type loopConfig struct {
	queue            *queue
	dial             func(ctx context.Context) (net.Conn, error) // Returns a connection that messages may be sent on: authorized, with TLS.
	writer           id                                          // Of all sessions.
	acks             bool
	messageLimit     uint64 // In bytes, for one message.
	writeTimeout     time.Duration
	maxBackoff       time.Duration
	heartbeatTimeout time.Duration // Of a session that is not on a bare Unix socket; 0 for none.
	dropOldest       bool          // The queue drops messages to make room.
	maxAge           time.Duration // The queue drops messages that are older; 0 for never.
}

// The loopEvents are called by the goroutine of a loop, one after the other, but for what stop does.
type loopEvents struct {
	state       func(state state, cause error)
	report      func(op string, err error)
	undelivered func(data []byte) // Gets each message that is given up; may be nil.
}

// A loop is the goroutine that empties a queue into one connection after the other. Messages that a connection has
// not taken to their last byte, or whose acknowledgement it has not brought, go to the next one.
type loop struct {
	cfg    loopConfig
	events loopEvents
	queue  *queue
	life   *lifecycle
	counts loopCounters
	limit  atomic.Uint64 // The largest message, for this side and, once it has said so, for the reader.

	// The goroutine's own.
	bufs      [][]byte
	headRetry retryCounter // Of the message that may be one that no reader takes.
	epoch     uint64       // Of the last session.

	connectRequested atomic.Bool // Connect, whether there is a message or not.

	mu           sync.Mutex // Guards what follows.
	current      *outbound  // The connection that flush polls; nil when there is none.
	handshaking  *outbound  // A connection before its welcome.
	unreadAtStop uint64     // Messages that the peer had not read yet when a forced stop ended its connection.

	reported reported
}

// The loopCounters are the counters of a loop, which do not include the queue's.
type loopCounters struct {
	connections, lostConnections, dialErrors         atomic.Uint64
	writes, writtenBytes, backpressure, possiblyLost atomic.Uint64
}

// The loopCounts are a snapshot of a loop's counters, one by one.
type loopCounts struct {
	connections     uint64 // Made.
	lostConnections uint64 // Broken, or ended by the peer.
	dialErrors      uint64 // Attempts that failed.
	writes          uint64
	writtenBytes    uint64
	backpressure    uint64 // Writes that waited for the write timeout, and more.
	possiblyLost    uint64 // Upper bound of the messages that were sent and not read.
}

// newLoop returns a loop that has not started.
func newLoop(cfg loopConfig, events loopEvents) *loop {
	l := &loop{
		cfg:    cfg,
		events: events,
		queue:  cfg.queue,
		life:   newLifecycle(cfg.maxBackoff, events.state),
		bufs:   make([][]byte, 0, maxVector),
	}
	l.limit.Store(cfg.messageLimit)
	return l
}

// start begins to connect and to send, and returns at once. It may be called again; after stop it returns errStopped.
func (l *loop) start() error { return l.life.start(l.run) }

// messageLimit returns the size of the largest message that both this side and the present reader accept.
func (l *loop) messageLimit() uint64 { return l.limit.Load() }

// connected reports whether there is a connection.
func (l *loop) connected() bool { return l.life.state() == stateConnected }

// waitConnected waits until there is a connection, and makes an idle loop connect. The error is errStopped after stop,
// and matches errNotConnected if ctx ends first.
func (l *loop) waitConnected(ctx context.Context) error {
	return l.life.waitConnected(ctx, func() {
		l.connectRequested.Store(true)
		l.queue.signal()
	})
}

// snapshot returns the counters.
func (l *loop) snapshot() loopCounts {
	return loopCounts{
		connections:     l.counts.connections.Load(),
		lostConnections: l.counts.lostConnections.Load(),
		dialErrors:      l.counts.dialErrors.Load(),
		writes:          l.counts.writes.Load(),
		writtenBytes:    l.counts.writtenBytes.Load(),
		backpressure:    l.counts.backpressure.Load(),
		possiblyLost:    l.counts.possiblyLost.Load(),
	}
}
