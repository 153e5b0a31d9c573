// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the other end of Dial. All that a Reader does until a connection may speak is done by one here: the
// socket and its file, activation, limits, TLS, the authorizer.

import (
	"fmt"
	"net"
	"sync"
)

// A Listener accepts connections for conversations. All methods may be called from any goroutine.
type Listener struct {
	reader *Reader
	once   sync.Once
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
	r := newReaderWith(cfg)
	r.conversations = make(chan *Conn)
	r.queued.setLimit(cfg.sendLimit())
	return &Listener{reader: r}, nil
}

// Start listens and returns. It may be called again, also after an error; after Close it returns ErrStopped.
func (l *Listener) Start() error { return l.reader.Start() }

// Accept returns the next connection, after its TLS handshake and once the authorizer has let it in; those that fail are
// reported to WithReaderErrorCallback, and hold up nobody. The Conn is the caller's to close, also after the
// Listener is. The error matches net.ErrClosed after Close, and is otherwise why accepting failed for good.
func (l *Listener) Accept() (*Conn, error) {
	select {
	case conn := <-l.reader.conversations:
		return conn, nil
	case <-l.reader.drained:
	}
	if err := l.reader.Err(); err != nil {
		return nil, err
	}
	return nil, asOpError(OpAccept, l.reader.cfg.where, net.ErrClosed)
}

// Addr returns the address that is listened on; for tcp://HOST:0 it has the port that the system chose.
func (l *Listener) Addr() net.Addr { return l.reader.Addr() }

// Shutdown stops listening and removes the socket file, but those who had connected before are still served: Accept
// returns them, and net.ErrClosed behind the last; the address is free then. Call Close after that. It waits for nothing, so
// that a callback may call it.
func (l *Listener) Shutdown() error {
	if l.reader.neverStarted() {
		return nil
	}
	return asOpError(OpStop, l.reader.cfg.where, l.reader.stopListening())
}

// Close stops listening and removes the socket file. Connections that were accepted stay open; those that were not are
// closed. The address is free when it returns, unless an error callback calls it, or runs: then soon after that. It may
// be called again.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.reader.abandoned) })
	err := l.Shutdown()
	if !l.reader.calling.Load() {
		<-l.reader.listened
	}
	return err
}

// Report hands an error to WithReaderErrorCallback, for what is built on a Listener; peer is who it is about.
func (l *Listener) Report(op string, peer Peer, err error) {
	l.reader.report(op, l.reader.cfg.where+", "+peer.String(), err)
}

// Overflow returns what happens when the queue of a Conn is full (WithOverflow).
func (l *Listener) Overflow() OverflowPolicy { return l.reader.cfg.overflow }

// Metrics returns a snapshot of the connections; what is about messages counts those that were read.
func (l *Listener) Metrics() ReaderMetrics { return l.reader.Metrics() }
