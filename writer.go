// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the Writer as its user sees it; writer_wait.go is what can be waited for. What its one
// goroutine does is in drain.go.

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A Writer streams messages to the Reader at an address. It is made by NewWriter, takes messages at
// once, connects after Start, and ends with Stop. All methods may be called from any goroutine.
//
// The Writer never blocks its program on I/O: messages wait in a bounded queue while the reader is
// slow or away. WithOverflow says what happens when the queue is full.
type Writer struct {
	cfg    writerConfig
	queue  *queue
	counts writerCounts
	limit  atomic.Uint64 // The largest message, for this side and, once it has said so, for the reader.
	id     WriterID      // Of all sessions; zero without acknowledgements.

	// Stopping.
	stopping atomic.Bool
	abort    context.Context // Ended when Stop does not wait any longer.
	giveUp   context.CancelFunc
	done     chan struct{} // Closed when the drain goroutine is gone.

	// The drain goroutine's own.
	bufs     [][]byte
	failures int    // Connections in a row that proved nothing; the exponent of the backoff.
	poison   strike // The message that may be one that no reader takes.
	attempt  uint64 // Of the last session.
	dialed   uint64 // Connections that were made, those that were given up at once included.
	unread   uint64 // Messages that the peer had not read yet when Stop gave up.

	wanted atomic.Bool // Somebody waits for a connection, whether there is a message or not.

	mu       sync.Mutex // Guards what follows.
	phase    phase
	state    State
	changed  chan struct{} // Closed and replaced whenever state changes.
	current  *outbound     // What Flush asks; nil when there is no connection.
	newcomer *outbound     // A connection that is not welcome yet.

	told told
}

// told is what the program was told of already, so that each message that was not delivered is told once,
// whoever asks.
type told struct {
	sync.Mutex               // Guards what follows; taken before queue.mu.
	dropped           uint64 // To the error callback.
	expired           uint64 // The same.
	undelivered, lost uint64 // By Flush and Stop; the first with what was dropped or expired.
}

// A phase is how far the life of a Writer or a Reader is.
type phase int

const (
	phaseNew phase = iota
	phaseStarted
	phaseStopped
)

// A State is what a Writer's connection is doing, as a state callback gets it.
type State int

// The states of a Writer, in the order in which they first occur.
const (
	StateNew        State = iota // Before Start; never reported.
	StateConnecting              // Trying to connect, until it succeeds.
	StateConnected               // Messages flow.
	StateLost                    // The connection ended. An idle Writer stays so until it has a message.
	StateStopped                 // The end.
)

func (s State) String() string {
	switch s {
	case StateNew:
		return "new"
	case StateConnecting:
		return "connecting"
	case StateConnected:
		return "connected"
	case StateLost:
		return "lost"
	case StateStopped:
		return "stopped"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// NewWriter returns a Writer for the Reader at address: a path, unix:PATH, @name (Linux) or
// tcp://HOST:PORT. The error names the option or the part of the address that makes no sense.
func NewWriter(address string, opts ...WriterOption) (*Writer, error) {
	cfg, err := newWriterConfig(address, opts)
	if err != nil {
		return nil, err
	}
	if cfg.stallTimeout != 0 {
		return nil, errors.New("udsipc: WithStallTimeout is for a Conn or a Link: a Writer waits for a slow reader")
	}
	limits := cfg.queueLimits()
	limits.bytes, limits.acks, limits.maxAge = cfg.maxBufferedBytes, cfg.acknowledgements, cfg.maxAge
	w := &Writer{
		cfg:     cfg,
		queue:   newQueue(limits),
		done:    make(chan struct{}),
		changed: make(chan struct{}),
		bufs:    make([][]byte, 0, maxVector),
	}
	w.abort, w.giveUp = context.WithCancel(context.Background())
	w.limit.Store(cfg.maxMessageSize)
	if cfg.acknowledgements {
		_, _ = rand.Read(w.id[:]) // Never fails (crypto/rand).
	}
	return w, nil
}

// Start begins to connect and to send, and returns at once. It may be called again; after Stop it
// returns ErrStopped.
func (w *Writer) Start() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch w.phase {
	case phaseStopped:
		return ErrStopped
	case phaseNew:
		w.phase = phaseStarted
		go w.run() // Ends after Stop, which waits for done.
	}
	return nil
}

// WriteMessage copies data into the queue; the caller may reuse it at once. A message of no bytes is
// a message. A nil error means that the message will be delivered, or counted as not delivered.
//
// It returns ErrMessageTooLarge for a message over WithMaxMessageSize, ErrStopped after Stop, and,
// when the queue is full, what WithOverflow says: ErrBufferFull by default.
func (w *Writer) WriteMessage(data []byte) error {
	if uint64(len(data)) > w.limit.Load() {
		return w.tooLarge(data)
	}
	if w.cfg.overflow == OverflowBlock {
		return w.countTooLarge(w.queue.pushWait(context.Background(), data))
	}
	return w.countTooLarge(w.queue.push(data))
}

// WriteMessageContext is WriteMessage, but when the queue is full it waits for room until ctx ends,
// whatever WithOverflow says, and then returns an error that matches ErrBufferFull and the
// context's. With OverflowDropOldest there is nearly always room. Those who wait are served in the order in which
// they came, and as long as there are any the queue is full for everybody else.
func (w *Writer) WriteMessageContext(ctx context.Context, data []byte) error {
	if uint64(len(data)) > w.limit.Load() {
		return w.tooLarge(data)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return w.countTooLarge(w.queue.pushWait(ctx, data))
}

// countTooLarge counts a message that is larger than the whole queue. It returns err.
func (w *Writer) countTooLarge(err error) error {
	if err != nil && errors.Is(err, ErrMessageTooLarge) {
		w.counts.tooLarge.Add(1)
	}
	return err
}

func (w *Writer) tooLarge(data []byte) error {
	w.counts.tooLarge.Add(1)
	limit := w.limit.Load()
	if limit < w.cfg.maxMessageSize {
		return fmt.Errorf("%w: %d bytes, the reader's limit is %d (its WithMaxMessageSize)", ErrMessageTooLarge, len(data), limit)
	}
	return overLimit(uint64(len(data)), limit)
}

// Stop refuses further messages, sends those that are queued (connecting again as often as it takes)
// and waits until they are acknowledged. Without acknowledgements it waits on a Unix socket on Linux until the peer has read
// them; elsewhere it ends its side and waits until the peer has ended the connection, which a Reader does once it has handled
// them. Then it closes the connection. A nil error means that everything was delivered, but for
// what a Flush has told of: the error says how many messages were dropped, set aside, or may have been lost.
//
// ctx bounds Stop alone: give it one of its own, because the one that told the program to end has ended.
// When ctx ends first, Stop returns at once with an error that says how many messages were left,
// after it has handed each of them to the WithUndelivered callback. It may be called before Start,
// again, and from several goroutines: the first context that ends ends them all, and only one call
// reports what was left. From inside one of the Writer's own callbacks it can only end with ctx.
func (w *Writer) Stop(ctx context.Context) error {
	w.queue.close() // First: once stopping is seen, nothing may be accepted.
	w.stopping.Store(true)
	w.queue.signal()

	w.mu.Lock()
	neverStarted := w.phase == phaseNew
	w.phase = phaseStopped
	if w.newcomer != nil {
		_ = w.newcomer.conn.SetReadDeadline(aLongTimeAgo) // It looks whether there is a reason to go on.
	}
	w.mu.Unlock()
	if neverStarted {
		w.setState(StateStopped, nil)
		close(w.done)
	}
	select {
	case <-w.done:
	case <-ctx.Done():
		w.giveUp()
		w.awaitDone()
	}
	return asOpError(OpStop, w.cfg.where, w.discard(ctx))
}

// stopGrace is how long a Stop whose context has ended waits for the drain goroutine to account for
// the write that was under way. It may be stuck in a callback.
const stopGrace = 20 * time.Millisecond

func (w *Writer) awaitDone() {
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	select {
	case <-w.done:
	case <-timer.C:
	}
}

// discard hands back what is left of the queue, and says how much that was, and what else was not delivered and
// was not told yet.
func (w *Writer) discard(ctx context.Context) error {
	w.told.Lock()
	left, rest := w.queue.takeRest()
	undelivered, lost := w.untoldLocked()
	w.told.Unlock()
	rest.visit(w.cfg.undelivered)
	w.reportDropped()
	var unread uint64
	select {
	case <-w.done:
		w.mu.Lock()
		unread, w.unread = w.unread, 0
		w.mu.Unlock()
	default:
	}
	cause := context.Cause(ctx)
	if cause == nil {
		cause = fmt.Errorf("%w before Start, or by another call whose context ended", ErrStopped)
	}
	var err error
	add := func(another error) {
		if err != nil {
			another = fmt.Errorf("%w; %w", err, another)
		}
		err = another
	}
	if left > 0 {
		add(fmt.Errorf("%d messages were not delivered: %w", left, cause))
	}
	if unread > 0 {
		add(fmt.Errorf("up to %d messages are with the kernel, but not read by the peer yet: %w", unread, cause))
	}
	if undelivered -= left; undelivered+lost > 0 {
		add(notDelivered(ErrStopped, undelivered, lost))
	}
	return err
}

// setState publishes a state and tells the callback. It is called by the drain goroutine, or by Stop
// when there is none.
func (w *Writer) setState(state State, cause error) {
	w.mu.Lock()
	if w.state == state {
		w.mu.Unlock()
		return
	}
	w.state = state
	close(w.changed)
	w.changed = make(chan struct{})
	w.mu.Unlock()
	if w.cfg.watch != nil {
		w.cfg.watch(state, cause)
	}
	if w.cfg.onState != nil {
		w.cfg.onState(state, cause)
	}
}

// report tells the error callback.
func (w *Writer) report(op string, err error) {
	w.counts.errors.Add(1)
	w.cfg.onError.report(op, w.cfg.where, err)
}
