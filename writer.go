// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the Writer: the face of a queue and of a sender.Loop, which connects and sends.

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/publish"
	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/sender"
	"github.com/udsipc/udsipc/internal/wire"
)

// A Writer streams messages to the Reader at an address. NewWriter creates it; it accepts messages
// at once, connects after Start, and ends with Stop. All methods are safe for concurrent use.
//
// Messages wait in a bounded queue while the reader is slow or disconnected. WithOverflow sets what
// happens when the queue is full. A call that does not wait for space never waits for I/O; one that
// may wait (OverflowBlock, WriteMessageContext) may write to the connection itself.
type Writer struct {
	cfg         writerConfig
	queue       *queue.Queue
	loop        *sender.Loop
	counts      writerCounts
	lastPeerID  atomic.Uint64        // Connections that were made, those that were given up at once included.
	peer        atomic.Pointer[Peer] // Of the last connection.
	publication *publish.Publication // nil: the metrics are not published.
}

// A State is the state of a connection, as a state callback gets it.
type State int

// The states of a Writer, in the order in which they first occur.
const (
	StateNew          State = iota // Before Start; never reported.
	StateConnecting                // Trying to connect, until it succeeds.
	StateConnected                 // Messages flow.
	StateDisconnected              // The connection ended. An idle Writer stays so until it has a message.
	StateStopped                   // The end.
)

// A State is converted from the state of a loop by its number. These lines are errors of the
// compiler if they differ.
var (
	_ = [1]int{}[StateConnecting-State(sender.StateConnecting)]
	_ = [1]int{}[StateConnected-State(sender.StateConnected)]
	_ = [1]int{}[StateDisconnected-State(sender.StateDisconnected)]
	_ = [1]int{}[StateStopped-State(sender.StateStopped)]
)

func (s State) String() string {
	switch s {
	case StateNew:
		return "new"
	case StateConnecting:
		return "connecting"
	case StateConnected:
		return "connected"
	case StateDisconnected:
		return "disconnected"
	case StateStopped:
		return "stopped"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// NewWriter returns a Writer for the Reader at address: a path, unix:PATH, @name (Linux) or
// tcp://HOST:PORT. The error names the invalid option or the invalid part of the address.
func NewWriter(address string, opts ...WriterOption) (*Writer, error) {
	cfg, err := newWriterConfig(address, opts)
	if err != nil {
		return nil, err
	}
	if cfg.stallTimeout != 0 {
		return nil, errors.New("udsipc: WithStallTimeout is for a Conn or a Link: a Writer waits for a slow reader")
	}
	limits := cfg.queueLimits()
	limits.Bytes, limits.Acks, limits.MaxAge = cfg.maxBufferedBytes, cfg.acknowledgements, cfg.maxAge
	limits.BytesAlone = !cfg.maxWritesSet
	if cfg.identity != nil {
		limits.First, limits.Sent = cfg.identity.First, cfg.identity.Sent
	}
	w := &Writer{
		cfg:   cfg,
		queue: queue.New(limits),
	}
	cfg.events.waiting = func() uint64 { return w.queue.ReadCounts().Queued }
	w.loop = sender.New(w.loopConfig(), sender.Events{State: w.onState, Report: w.report, Undelivered: cfg.undelivered})
	w.cfg.awaits = w.loop.Awaits
	w.publication = w.newPublication()
	return w, nil
}

// loopConfig returns what the loop needs to know of the options.
func (w *Writer) loopConfig() sender.Config {
	cfg := sender.Config{
		Queue:            w.queue,
		Dial:             w.dial,
		Acks:             w.cfg.acknowledgements,
		MessageLimit:     w.cfg.maxMessageSize,
		WriteTimeout:     w.cfg.writeTimeout,
		MaxBackoff:       w.cfg.maxBackoff,
		HeartbeatTimeout: w.cfg.heartbeatTimeout,
		DropOldest:       w.cfg.overflow == OverflowDropOldest,
		MaxAge:           w.cfg.maxAge,
		Handled:          w.cfg.onHandled,
	}
	switch id := w.cfg.identity; {
	case id != nil:
		cfg.Writer, cfg.First, cfg.Epoch = wire.WriterID(id.Writer), id.First, id.Attempt
	case cfg.Acks:
		_, _ = rand.Read(cfg.Writer[:]) // Never fails (crypto/rand).
	}
	return cfg
}

// dial connects and makes sure who listens. It is called by the loop.
func (w *Writer) dial(ctx context.Context) (net.Conn, error) {
	conn, peer, err := w.cfg.connect(ctx, &w.lastPeerID)
	if err == nil {
		w.peer.Store(&peer)
		w.cfg.growSendBuffer(conn, peer)
	}
	w.counts.dialed(err)
	return conn, err
}

// Start begins to connect and to send, and returns at once. It may be called again; after Stop it
// returns ErrStopped.
func (w *Writer) Start() error {
	w.publication.Start() // Before the loop calls callbacks. Once stopped, it does nothing.
	return w.loop.Start()
}

// WriteMessage copies data into the queue; the caller may reuse it once the call returns. An empty
// message is a message. With OverflowBlock, the call may write to the connection itself, a message over
// 64 KiB from data: while the reader keeps up, it waits for the reader although the queue has space.
// That ends when a write takes 5 ms. A nil error means that the message will be delivered, or
// counted as not delivered.
//
// It returns ErrMessageTooLarge for a message over WithMaxMessageSize, and ErrStopped after Stop.
// If the queue is full, WithOverflow applies: the default is ErrBufferFull.
func (w *Writer) WriteMessage(data []byte) error {
	if uint64(len(data)) > w.loop.MessageLimit() {
		return w.tooLargeErr(len(data), 1)
	}
	if w.cfg.overflow == OverflowBlock {
		return w.countTooLarge(w.queue.EnqueueWaitAndWake(context.Background(), data), 1)
	}
	return w.countTooLarge(w.queue.EnqueueAndWake(data), 1)
}

// WriteMessageContext is WriteMessage, but if the queue is full it waits for space until ctx ends,
// whatever WithOverflow is. Then the error matches ErrBufferFull and the error of ctx. A write of
// the call itself may end some milliseconds after ctx. Waiting producers are served in order; while
// any waits, the queue is full for all other producers. With OverflowDropOldest there is nearly
// always space.
func (w *Writer) WriteMessageContext(ctx context.Context, data []byte) error {
	if uint64(len(data)) > w.loop.MessageLimit() {
		return w.tooLargeErr(len(data), 1)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return w.countTooLarge(w.queue.EnqueueWaitAndWake(ctx, data), 1)
}

// countTooLarge counts messages that are larger than the whole queue. It returns err.
func (w *Writer) countTooLarge(err error, messages uint64) error {
	if err != nil && errors.Is(err, ErrMessageTooLarge) {
		w.counts.tooLarge.Add(messages)
	}
	return err
}

// tooLargeErr counts messages, of which one has too many bytes.
func (w *Writer) tooLargeErr(bytes int, messages uint64) error {
	w.counts.tooLarge.Add(messages)
	limit := w.loop.MessageLimit()
	if limit < w.cfg.maxMessageSize {
		return fmt.Errorf("%w: %d bytes, the reader's limit is %d (its WithMaxMessageSize)",
			ErrMessageTooLarge, bytes, limit)
	}
	return errdefs.OverLimit(uint64(bytes), limit)
}

// Stop rejects new messages, sends the queued ones, reconnecting as often as necessary, and waits
// until they are acknowledged. In plain mode it waits on a Unix socket on Linux until the peer has
// read them. Elsewhere it closes its sending side and waits until the peer has closed the
// connection, which a Reader does when it has handled them. Then it closes the connection. The
// error has the number of messages that were dropped, given up or possibly lost, and that no Flush
// has reported.
//
// ctx limits only Stop: use a new context, because the one that ended the program has already
// ended. When ctx ends first, Stop gives up the messages that are left, returns each to the
// WithUndelivered callback, and returns at once with an error that has their number. A message of
// the write that was under way then may be returned although it arrives. Stop may be called before
// Start, again, and concurrently. The first context that ends applies to all calls, and one call
// reports the messages that are left. Within a callback of the Writer, Stop returns only when ctx
// ends.
func (w *Writer) Stop(ctx context.Context) error {
	return w.cfg.events.stopped(ctx, asOpError(OpStop, w.cfg.addrText, w.loop.Stop(ctx)))
}

// Close is Stop with a context that ends after WithCloseTimeout, 5 s by default. Its error is that of
// Stop; it matches context.DeadlineExceeded if the time was not enough. Close may be called again. It
// implements io.Closer.
func (w *Writer) Close() error {
	ctx, cancel := w.cfg.closeContext()
	defer cancel()
	return w.Stop(ctx)
}

// Flush blocks until every earlier message is delivered, or ctx ends. Delivered means: in
// acknowledged mode, handled; on Linux, read by the peer (Unix socket) or acknowledged by its
// kernel (TCP); otherwise, and with TLS, accepted by the local kernel. The error counts messages
// that were dropped or possibly lost since the last completed Flush; it matches ErrStopped while
// the Writer stops, else ErrConnectionClosed. If several calls run concurrently, one of them
// reports each message.
func (w *Writer) Flush(ctx context.Context) error {
	return opError(OpFlush, w.cfg.addrText, w.loop.Flush(ctx))
}

// WaitConnected blocks until there is a connection. An idle Writer connects. If ctx ends first, the
// error matches ErrNotConnected and the error of ctx; after Stop it is ErrStopped.
func (w *Writer) WaitConnected(ctx context.Context) error {
	err := w.loop.WaitConnected(ctx)
	if err == ErrStopped {
		return err
	}
	return asOpError(OpWaitConnected, w.cfg.addrText, err)
}

// onState calls the callbacks of a state. It is called by the loop.
func (w *Writer) onState(state sender.State, cause error) {
	switch state {
	case sender.StateConnected:
		w.cfg.events.connected(w.loop.EndedOutage())
	case sender.StateStopped:
		w.publication.Stop()
	}
	w.cfg.tellState(State(state), cause)
}

// report counts an error, and calls the error callback.
func (w *Writer) report(op string, err error) {
	w.counts.errors.Add(1)
	if op != OpDial { // That of connect has an operation of its own.
		err = opError(op, w.cfg.addrText, err)
	}
	w.cfg.events.report(op, w.cfg.addrText, err)
}
