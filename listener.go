// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the other end of Dial. All that a Reader does until a connection may speak is done by one here: the
// socket and its file, activation, limits, TLS, the authorizer.

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/udsipc/udsipc/internal/publish"
	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/receiver"
)

// A Listener accepts full-duplex connections. All methods are safe for concurrent use.
type Listener struct {
	server      *receiver.Server
	cfg         *sharedConfig        // Of each Conn.
	readMemory  *readMemory          // Of all read buffers together.
	sendMemory  queue.SharedLimit    // Of all queues together.
	publication *publish.Publication // nil: the metrics are not published.
	stalled     atomic.Uint64        // Conns that were ended because of WithStallTimeout.

	mu    sync.Mutex // Guards what follows.
	conns map[*Conn]struct{}
}

// Listen listens at address like a Reader after Start, and returns the same errors. It accepts the
// options of a Reader for the socket, systemd, connections, memory, TLS and authorization, and
// WithMaxMessageSize. It also accepts the queue options (WithMaxBufferedWrites,
// WithMaxBufferedBytes, WithOverflow, WithWriteTimeout, WithStallTimeout, WithMaxSendMemory).
// Connections may be idle without a limit, unless WithInactivityTimeout is set.
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

// NewListener checks the options and returns a Listener that listens after Start. Listen does both.
func NewListener(address string, opts ...ReaderOption) (*Listener, error) {
	cfg, err := newReaderConfig(address,
		append([]ReaderOption{WithInactivityTimeout(0), WithFirstMessageTimeout(0)}, opts...))
	if err != nil {
		return nil, err
	}
	if cfg.deadLetter != nil {
		return nil, fmt.Errorf("udsipc: WithDeadLetter is for a Reader")
	}
	if cfg.batch.option != "" {
		return nil, fmt.Errorf("udsipc: %s is for a Reader of NewBatchReader", cfg.batch.option)
	}
	if cfg.hungTimeout != 0 {
		return nil, fmt.Errorf("udsipc: WithHungTimeout(%v) is for a Reader: who converses on a "+
			"Conn has no handler that could be looked at", cfg.hungTimeout)
	}
	memory := cfg.newMemory()
	l := &Listener{cfg: &cfg.sharedConfig, readMemory: memory, conns: make(map[*Conn]struct{})}
	config := cfg.server(memory)
	config.Ended = func() { l.publication.Stop() }
	l.server = receiver.New(config)
	l.publication = cfg.serverPublication("listener", func() any { return l.Metrics() }, l.server)
	l.sendMemory.SetLimit(cfg.sendLimit())
	return l, nil
}

// Start listens and returns. It may be called again, also after an error; after Close it returns
// ErrStopped.
func (l *Listener) Start() error {
	err := publicError(l.server.Start())
	if err == nil {
		l.publication.Start()
	}
	return err
}

// Accept returns the next connection after its TLS handshake and authorization. Connections that
// fail are reported to WithReaderErrorCallback, and delay no other. The caller must close the Conn;
// it stays open when the Listener closes. After Close the error matches net.ErrClosed; otherwise it
// is a permanent accept error.
func (l *Listener) Accept() (*Conn, error) {
	if o := l.server.Accept(); o != nil {
		return l.newConn(o), nil
	}
	if err := publicError(l.server.Failure()); err != nil {
		return nil, err
	}
	return nil, asOpError(OpAccept, l.cfg.addrText, net.ErrClosed)
}

// newConn makes a Conn of a connection that was offered.
func (l *Listener) newConn(o *receiver.Offer) *Conn {
	conn := newConn(o.In, publicPeer(&o.Peer), l.cfg, &l.sendMemory)
	conn.stalledCount = &l.stalled
	conn.ended = func() {
		l.mu.Lock()
		delete(l.conns, conn)
		l.mu.Unlock()
		l.sendMemory.RemoveQueue()
		o.ConnClosed()
	}
	l.sendMemory.AddQueue()
	l.mu.Lock()
	l.conns[conn] = struct{}{}
	l.mu.Unlock()
	return conn
}

// Addr returns the address that the Listener listens on; for tcp://HOST:0 it has the port that the
// system chose.
func (l *Listener) Addr() net.Addr { return l.server.Addr() }

// Close stops listening, removes the socket file, and closes the connections that were not
// accepted. Accepted connections stay open. When Close returns, the address is free; if an error
// callback calls Close, or runs meanwhile, soon afterwards. It may be called again.
func (l *Listener) Close() error { return l.close(context.Background()) }

func (l *Listener) close(ctx context.Context) error {
	l.server.Abandon()
	err := publicError(l.server.Shutdown())
	l.server.AwaitListened()
	l.publication.Stop()
	l.cfg.events.flush(ctx)
	return err
}

// Metrics returns a snapshot of the connections; the message counters count received messages.
func (l *Listener) Metrics() ReaderMetrics {
	m := readerMetrics(l.server.Snapshot())
	m.setMemory(l.readMemory)
	m.Stalled = l.stalled.Load()
	m.Dropped = l.sendMemory.DroppedMessages()
	l.mu.Lock()
	defer l.mu.Unlock()
	for conn := range l.conns {
		m.SendMemory += conn.queue.HeldBytes()
	}
	return m
}
