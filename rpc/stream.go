// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"context"
	"math"
	"sync"
)

const (
	window      = 1 << 20  // Bytes that a stream may have under way in each direction, besides one message.
	maxWindow   = 64 << 20 // The largest that is believed of the other side.
	messageCost = 16       // What a message costs of the window besides its bytes.
	maxBatch    = 32 << 10 // Bytes that are sent at once, or one message.
	maxOverhead = 32       // What a message of a stream has besides its bytes, at the most.
)

// A StreamHandler serves a stream until it returns. Returning nil ends the stream in order, after
// all messages were sent; the client's Receive returns an error as an *Error, after the messages
// sent before it. ctx ends with the stream, also if either side fails, for example with a message
// over the limit. When the server stops, Receive returns the messages that the client had sent,
// then an error with CodeConnectionLost; Send continues, and the client reads to the end.
type StreamHandler func(ctx context.Context, s *Stream) error

// A StreamInterceptor is put around the handlers of streams: it returns a StreamHandler that calls next, or does not.
type StreamInterceptor func(next StreamHandler) StreamHandler

// HandleStream sets what serves the streams of a method. It panics as Handle does.
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
	limit     int             // Of what write takes.
	onFail    func(why error) // Told of the end by an error, with mu held; nil for nobody.
	connState *connState      // Of a server, which counts what has arrived; nil at a client.

	mu         sync.Mutex // Guards what follows.
	sendable   sync.Cond  // Waits for credit, or the end.
	receivable sync.Cond  // Waits for messages, or the end.

	// What is sent.
	credit       int    // What may still be sent.
	outgoing     []byte // A message of typeData: those that are to be sent, each with its length before it. Empty without one.
	spare        []byte
	flushing     bool   // A goroutine sends them.
	localClosed  bool   // This side sends nothing more.
	closeSent    bool   // The other side was told.
	sendErr      *Error // Why nothing more is sent, although this side has not ended.
	noMoreCredit bool   // No credit comes any more.

	// What is received.
	receiveWindow    int    // What the other side may still send.
	incoming         []byte // What the other side has sent: messages, each with its length before it.
	receiveBuf       []byte // What Receive goes through.
	unread           []byte // What of taken is still to be handed out; its receiver's own.
	unreturnedCredit int    // What was received and not given back as credit; its receiver's own.
	remoteClosed     bool   // The other side sends nothing more.
	inputErr         *Error // Nothing more comes, although the other side has not said so.

	// The end.
	err         error // Why nothing works any more.
	failureSent bool  // The other side knows, or has said so.
	handlerDone bool  // The handler has returned, here or at the other side.
}

// An output is how the messages of a stream go out.
type output struct {
	data   func(body []byte) error
	end    func(body []byte) error // Never refused.
	credit func(body []byte) error // Never refused, and never waits.
}

func newStream(id uint64, ctx context.Context, out output, limit uint64, credit int) *Stream {
	s := &Stream{id: id, ctx: ctx, out: out, limit: int(min(limit, math.MaxInt32)), credit: credit, receiveWindow: window}
	s.sendable.L, s.receivable.L = &s.mu, &s.mu
	return s
}

// Context returns a context that ends with the stream.
func (s *Stream) Context() context.Context { return s.ctx }

// finish ends a handler's side: what was sent goes out, and then nothing more. It returns what the client has to be told,
// nil for the end in order, unless it knows that the stream has ended.
func (s *Stream) finish(failed *Error) (ended bool, why *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endSendingLocked()
	s.handlerDone = true
	s.freeBufferLocked(&s.incoming)
	s.freeBufferLocked(&s.receiveBuf)
	switch {
	case s.failureSent:
		return true, nil
	case failed != nil:
		return false, failed
	case s.err != nil:
		return false, asError(s.err)
	}
	return false, nil
}

// fail ends the stream.
func (s *Stream) fail(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLocked(asError(why))
}

// failTold ends the stream for a reason that the other side is told at once.
func (s *Stream) failTold(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLocked(why)
	s.failureSent = true
}

func (s *Stream) failLocked(why error) {
	if s.err == nil {
		s.err = why
		if s.onFail != nil {
			s.onFail(why)
		}
	}
	s.sendable.Broadcast()
	s.receivable.Broadcast()
}
