// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the other end of Dial. All that a Reader does until a connection may speak is done by one here: the
// socket and its file, activation, limits, TLS, the authorizer.

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
)

// A Listener accepts connections for conversations. All methods may be called from any goroutine.
type Listener struct {
	server  *server
	cfg     *sharedConfig // Of each Conn.
	memory  *budget       // Of all read buffers together.
	queued  sharedRoom    // Of all queues together.
	stalled atomic.Uint64 // Conns that were ended because of WithStallTimeout.

	mu    sync.Mutex // Guards what follows.
	conns map[*Conn]struct{}
}

// Listen listens at address, as a Reader does from its Start on, and with its options: those of the socket and of
// systemd, the limits of connections and of memory, WithTLS, WithAuthorizer, WithMaxMessageSize. Beside those it takes the ones
// that bound what a Conn has queued (WithMaxBufferedWrites, WithMaxBufferedBytes, WithOverflow, WithWriteTimeout), and
// what all have together (WithSendMemory).
// Connections may be idle for ever unless WithInactivityTimeout is given. It returns what Reader.Start returns.
func Listen(address string, opts ...ReaderOption) (*Listener, error) {
	l, err := NewListener(address, opts...)
	if err != nil {
		return nil, err
	}
	if err := l.Start(); err != nil {
		return nil, err
	}
	return l, nil
}

// NewListener is Listen in two steps: it checks the options, and Start listens.
func NewListener(address string, opts ...ReaderOption) (*Listener, error) {
	cfg, err := newReaderConfig(address, append([]ReaderOption{WithInactivityTimeout(0), WithFirstMessageTimeout(0)}, opts...))
	if err != nil {
		return nil, err
	}
	if cfg.deadLetter != nil {
		return nil, fmt.Errorf("udsipc: WithDeadLetter is for a Reader")
	}
	if cfg.stuckAfter != 0 {
		return nil, fmt.Errorf("udsipc: WithStuckAfter(%v) is for a Reader: who converses on a Conn has no handler that could be looked at", cfg.stuckAfter)
	}
	memory := cfg.newMemory()
	l := &Listener{server: newServer(cfg.server(memory)), cfg: &cfg.sharedConfig, memory: memory, conns: make(map[*Conn]struct{})}
	l.queued.setLimit(cfg.sendLimit())
	return l, nil
}

// Start listens and returns. It may be called again, also after an error; after Close it returns ErrStopped.
func (l *Listener) Start() error { return public(l.server.start()) }

// Accept returns the next connection, after its TLS handshake and once the authorizer has let it in; those that fail are
// reported to WithReaderErrorCallback, and hold up nobody. The Conn is the caller's to close, also after the
// Listener is. The error matches net.ErrClosed after Close, and is otherwise why accepting failed for good.
func (l *Listener) Accept() (*Conn, error) {
	if o := l.server.accept(); o != nil {
		return l.newConn(o), nil
	}
	if err := public(l.server.failure()); err != nil {
		return nil, err
	}
	return nil, asOpError(OpAccept, l.cfg.where, net.ErrClosed)
}

// newConn makes a Conn of a connection that was offered.
func (l *Listener) newConn(o *offer) *Conn {
	conn := newConn(o.in, publicPeer(&o.peer), l.cfg, &l.queued)
	conn.stalls = &l.stalled
	conn.ended = func() {
		l.mu.Lock()
		delete(l.conns, conn)
		l.mu.Unlock()
		l.queued.removeQueue()
		o.done()
	}
	l.queued.addQueue()
	l.mu.Lock()
	l.conns[conn] = struct{}{}
	l.mu.Unlock()
	return conn
}

// Addr returns the address that is listened on; for tcp://HOST:0 it has the port that the system chose.
func (l *Listener) Addr() net.Addr { return l.server.addr() }

// Close stops listening and removes the socket file. Connections that were accepted stay open; those that were not are
// closed. The address is free when it returns, unless an error callback calls it, or runs: then soon after that. It may
// be called again.
func (l *Listener) Close() error {
	l.server.abandon()
	err := public(l.server.shutdown())
	l.server.awaitListened()
	return err
}

// Metrics returns a snapshot of the connections; what is about messages counts those that were read.
func (l *Listener) Metrics() ReaderMetrics {
	m := readerMetrics(l.server.snapshot())
	m.setMemory(l.memory)
	m.Stalled = l.stalled.Load()
	m.Dropped = l.queued.droppedMessages()
	l.mu.Lock()
	defer l.mu.Unlock()
	for conn := range l.conns {
		m.SendMemory += conn.queue.held()
	}
	return m
}
