// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"context"
	"math"
	"sync"

	"github.com/udsipc/udsipc/internal/seam"
)

const (
	// Bytes of a stream that may be unread in each direction, not counting one message.
	window      = 1 << 20
	maxWindow   = 64 << 20 // The largest window that is accepted from the peer.
	messageCost = 16       // What a message uses of the window, beside its bytes.
	maxBatch    = 32 << 10 // Bytes that are sent at once, if not a single message.
	maxOverhead = 32       // The largest encoding overhead of a message of a stream.
	batchHead   = 32       // The space for the frame prefix, the type and the number of a batch.
)

// A StreamHandler serves a stream until it returns. Returning nil ends the stream in order, after
// all messages were sent; the client's Receive returns an error as an *Error, after the messages
// sent before it. ctx ends with the stream, also if either side fails, for example with a message
// over the limit. When the server stops, Receive returns the messages that the client had sent,
// then an error with CodeConnectionLost; Send continues, and the client reads to the end.
type StreamHandler func(ctx context.Context, s *Stream) error

// A StreamInterceptor wraps the handlers of streams. It returns a StreamHandler that may call next.
type StreamInterceptor func(next StreamHandler) StreamHandler

// HandleStream sets the stream handler of a method. It panics as Handle does.
func (s *Server) HandleStream(name string, handler StreamHandler) {
	s.add(&method{name: name, stream: handler}, handler == nil)
}

// A Stream carries messages both ways for one method: OpenStream opens it, a StreamHandler serves
// it. Each direction has a flow-control window of 1 MiB: Send blocks while the peer has that much
// unread. One goroutine may send and one may receive at a time.
type Stream struct {
	id        uint64
	ctx       context.Context
	out       output
	limit     int               // Of an encoded message, in bytes.
	onFail    func(cause error) // Called with mu held when the stream fails; may be nil.
	connState *connState        // At a server, for memory accounting; nil at a client.
	request   []byte            // At a server.

	mu         sync.Mutex // Guards the fields below.
	sendable   sync.Cond  // Waits for credit, or the end.
	receivable sync.Cond  // Waits for messages, or the end.

	// Sending.
	credit int // Bytes that may still be sent.
	// The messages to send, each with its length, after batchHead bytes for the head of a typeData
	// message: outgoing.Bytes()[batchHead:outgoingEnd]. nil without one.
	outgoing     seam.Buffer
	outgoingEnd  int
	flushing     bool   // The flush goroutine runs.
	waiting      bool   // The flush goroutine waits for space in the queue, with a batch.
	localClosed  bool   // CloseSend was called, or the handler returned.
	closeSent    bool   // The end was sent to the peer.
	sendErr      *Error // Why sending has ended before localClosed.
	noMoreCredit bool   // No more credit comes.

	// Receiving.
	receiveWindow int // Bytes that the peer may still send.
	incoming      receiveQueue
	// Part of incoming.current that Receive has not returned. Owned by the receiving goroutine.
	unread []byte
	// Bytes received, but not yet returned as credit. Owned by the receiving goroutine.
	unreturnedCredit int
	remoteClosed     bool   // The peer sends nothing more.
	inputErr         *Error // Why receiving has ended before remoteClosed.

	// The end.
	err         error // Why the stream has failed, or nil.
	failureSent bool  // The peer knows the failure.
	handlerDone bool  // The handler has returned, here or at the peer.
}

// An output sends the messages of a stream.
type output struct {
	// enqueue and write are EnqueueBuffer and WriteQueued of package seam. Both are nil in tests.
	enqueue func(b seam.Buffer, from, to int) (idle bool, err error)
	write   func()

	data   func(body []byte) error // Waits for space in the queue.
	end    func(body []byte) error // Never refused.
	credit func(body []byte) error // Never refused, and never waits.
}

func newStream(id uint64, ctx context.Context, out output, limit uint64, credit int) *Stream {
	s := &Stream{id: id, ctx: ctx, out: out, limit: int(min(limit, math.MaxInt32)), credit: credit, receiveWindow: window}
	s.sendable.L, s.receivable.L = &s.mu, &s.mu
	return s
}

// Context returns a context that ends with the stream. At the client, that is when the stream fails, the
// context of OpenStream ends, or Close is called: after a handler that returns nil, there may be messages
// to receive.
func (s *Stream) Context() context.Context { return s.ctx }

// Request returns what the client has passed to OpenStream. It is valid until the handler returns.
// At the client it is nil.
func (s *Stream) Request() []byte { return s.request }

// finish ends the server's side after its handler returned. It sends the queued messages, then
// nothing more. It returns the error to send to the client, nil for a graceful end. ended reports
// that the client knows the end already.
func (s *Stream) finish(failed *Error) (ended bool, cause *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endSendingLocked()
	s.handlerDone = true
	s.freeIncomingLocked()
	switch {
	case s.failureSent:
		return true, nil
	case s.err != nil: // First: messages of the handler may not have been sent.
		return false, asError(s.err)
	case failed != nil:
		return false, failed
	}
	return false, nil
}

// fail ends the stream with an error.
func (s *Stream) fail(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLocked(asError(cause))
}

// failReported ends the stream with an error that the caller sends to the peer.
func (s *Stream) failReported(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLocked(cause)
	s.failureSent = true
}

func (s *Stream) failLocked(cause error) {
	if s.err == nil {
		s.err = cause
		if s.onFail != nil {
			s.onFail(cause)
		}
	}
	s.sendable.Broadcast()
	s.receivable.Broadcast()
}
