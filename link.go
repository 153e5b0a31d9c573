// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is a conversation that outlives its connections: a Conn that is made anew whenever it is lost, and a
// queue that stays. packages duplex and rpc stand on it.

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/publish"
	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/seam"
	"github.com/udsipc/udsipc/internal/sender"
)

// A Link is a client connection that reconnects. It sends queued messages in order and calls a
// handler for each received one. NewLink creates it; it accepts messages at once, connects after
// Start, and ends with Stop. All methods are safe for concurrent use.
//
// After a disconnect it resends the message that was written only in part. Whether the peer read
// the messages before it is unknown.
type Link struct {
	cfg           writerConfig
	handle        func(data []byte)
	queue         *queue.Queue
	blockWhenFull bool

	life        *sender.Lifecycle
	counts      linkCounts
	publication *publish.Publication // nil: the metrics are not published.

	readConn *Conn // Owned by the goroutine that reads, as the next.
	refused  bool  // The peer of the connection has said why it ends it.

	onDisconnect func()                 // Set by a linkSeam; nil for nobody.
	onTooLarge   func(e *seam.TooLarge) // Set by a linkSeam; nil for nobody.

	noEmptyMessages bool // Set by a linkSeam: an empty message is a goodbye.

	mu          sync.Mutex // Guards what follows.
	conn        *Conn      // While connected.
	refuseConns bool       // Stop has looked for the connection to end.
}

// NewLink returns a Link to the Listener at address. It accepts the options of a Writer except
// WithAcknowledgements, WithUndelivered and WithMaxAge. handle is called for each received message,
// one after the other; data is valid until it returns. WithStateCallback reports a disconnect after
// the last message of that connection was handled, and before the next connection.
func NewLink(address string, handle func(data []byte), opts ...WriterOption) (*Link, error) {
	cfg, err := newWriterConfig(address, opts)
	if err != nil {
		return nil, err
	}
	switch {
	case handle == nil:
		return nil, ErrHandlerNil
	case cfg.acknowledgements || cfg.undelivered != nil || cfg.maxAge != 0:
		return nil, errors.New("udsipc: NewLink: WithAcknowledgements, WithUndelivered and WithMaxAge are for a Writer")
	}
	l := &Link{
		cfg:           cfg,
		handle:        handle,
		queue:         queue.New(cfg.queueLimits()),
		blockWhenFull: cfg.overflow == OverflowBlock,
	}
	l.life = sender.NewLifecycle(cfg.maxBackoff, l.onState)
	l.cfg.awaits = l.life.Awaits
	cfg.events.waiting = l.queued
	l.publication = l.newPublication()
	return l, nil
}

// queued returns the number of messages that wait.
func (l *Link) queued() uint64 { return l.queue.ReadCounts().Queued }

// onState calls the callbacks of a state. It is called by the goroutine of the Link.
func (l *Link) onState(state sender.State, cause error) {
	if state == sender.StateDisconnected && l.onDisconnect != nil {
		l.onDisconnect()
	}
	switch state {
	case sender.StateConnected:
		l.cfg.events.connected(l.life.EndedOutage())
	case sender.StateStopped:
		l.publication.Stop()
	}
	l.cfg.tellState(State(state), publicError(cause))
}

// Start begins to connect and returns at once. It may be called again; after Stop it returns
// ErrStopped.
func (l *Link) Start() error {
	l.publication.Start() // Before there are callbacks. Once stopped, it does nothing.
	return l.life.Start(l.run)
}

// WriteMessage copies data into the queue, and writes it at once if the connection is idle; the
// caller may reuse data. If the queue is full, WithOverflow applies: the default is ErrBufferFull.
// The other errors are ErrMessageTooLarge, and ErrStopped after Stop.
func (l *Link) WriteMessage(data []byte) error {
	_, err := l.send(data)
	return err
}

// send is WriteMessage; it also returns the sequence number of the message.
func (l *Link) send(data []byte) (number uint64, err error) {
	return l.sendContext(l.life.Context(), data)
}

// sendContext is send, but with OverflowBlock it waits for space only until ctx ends.
func (l *Link) sendContext(ctx context.Context, data []byte) (number uint64, err error) {
	if uint64(len(data)) > l.cfg.maxMessageSize {
		l.counts.tooLarge.Add(1)
		return 0, errdefs.OverLimit(uint64(len(data)), l.cfg.maxMessageSize)
	}
	number, idle, err := l.queue.Enqueue(data)
	for l.blockWhenFull && errdefs.IsBufferFull(err) {
		number, idle, err = l.queue.EnqueueWait(ctx, data)
	}
	if idle {
		l.writeQueued()
	}
	if err != nil {
		return 0, err
	}
	return number, nil
}

// sendUnbounded sends a message that the limits of the queue do not hold for.
func (l *Link) sendUnbounded(data []byte, enqueue func([]byte) (uint64, bool, error)) (number uint64, err error) {
	if uint64(len(data)) > l.cfg.maxMessageSize {
		l.counts.tooLarge.Add(1)
		return 0, errdefs.OverLimit(uint64(len(data)), l.cfg.maxMessageSize)
	}
	number, idle, err := enqueue(data)
	if idle {
		l.writeQueued()
	}
	return number, err
}

// writeQueued writes what is queued. It is called by the goroutine that found the queue idle: then there is a
// connection, unless the handler has ended the Link.
func (l *Link) writeQueued() {
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if conn != nil {
		conn.out.Send()
	}
}

// Dropped returns the number of messages that OverflowDropOldest has dropped.
func (l *Link) Dropped() uint64 {
	counts := l.queue.ReadCounts()
	return counts.Dropped - counts.DroppedControl
}

// State returns the state of the connection.
func (l *Link) State() State { return State(l.life.State()) }

// WaitConnected blocks until there is a connection. If ctx ends first, the error matches
// ErrNotConnected and the error of ctx; after Stop it is ErrStopped.
func (l *Link) WaitConnected(ctx context.Context) error {
	err := l.life.WaitConnected(ctx, nil)
	if err == ErrStopped {
		return err
	}
	return asOpError(OpWaitConnected, l.cfg.addrText, err)
}

// Peer returns the other end, and false without a connection.
func (l *Link) Peer() (Peer, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return Peer{}, false
	}
	return l.conn.peer, true
}

// Flush blocks until connections have taken all earlier messages, or ctx ends.
func (l *Link) Flush(ctx context.Context) error {
	if err := l.queue.Flush(ctx); err != nil {
		return opError(OpFlush, l.cfg.addrText, l.life.WaitingErr(l.queue, err))
	}
	return asOpError(OpFlush, l.cfg.addrText, l.queue.UndeliveredErr())
}

// Stop rejects new messages, sends the queued ones, and closes the connection; over TCP, it first
// waits until the peer has read everything and closed its side. When ctx ends first, Stop closes
// the connection and returns at once. The error has the number of unsent messages, or says that the
// handler has not returned. Stop may be called before Start, again, and concurrently. Within the
// handler or a callback it returns only when ctx ends.
func (l *Link) Stop(ctx context.Context) error {
	return l.cfg.events.stopped(ctx, asOpError(OpStop, l.cfg.addrText, l.stop(ctx)))
}

func (l *Link) stop(ctx context.Context) error {
	l.queue.Close()
	defer l.life.WatchStop(ctx, l.queue, func(err error) { l.cfg.events.report(OpStop, l.cfg.addrText, err) })()
	if l.life.Stop() {
		select {
		case <-l.queue.Flushed():
		case <-l.life.Done():
		case <-ctx.Done():
		}
	}
	defer context.AfterFunc(ctx, l.life.Force)() // Whatever hangs ends with the connection.
	gentle := l.halfClose(ctx)
	l.life.Force()
	select {
	case <-l.life.Done():
	case <-ctx.Done():
		gentle = errdefs.First(l.busyErr(ctx), gentle)
	}
	left := l.queue.DiscardAll(nil)
	if left == 0 {
		return gentle
	}
	return &errdefs.Note{
		Kind: errdefs.NoteLeft, Messages: left,
		Err: fmt.Errorf("%s not sent: %w", errdefs.CountIs(left, "was", "were"), l.life.StopCause(ctx)),
	}
}

// Close is Stop with a context that ends after WithCloseTimeout, 5 s by default. Its error is that of
// Stop. Close may be called again. It implements io.Closer.
func (l *Link) Close() error {
	ctx, cancel := l.cfg.closeContext()
	defer cancel()
	return l.Stop(ctx)
}
