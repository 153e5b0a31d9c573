// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/udsipc/udsipc/duplex"
)

const (
	window      = 1 << 20  // Bytes that a stream may have under way in each direction, besides one message.
	maxWindow   = 64 << 20 // The largest that is believed of the other side.
	messageCost = 16       // What a message costs of the window besides its bytes.
	maxBatch    = 32 << 10 // Bytes that are sent at once, or one message.
	maxOverhead = 32       // What a message of a stream has besides its bytes, at the most.
)

// A StreamHandler serves a stream until it returns: nil ends it in order, once everything was sent; an error reaches the
// client's Receive as an *Error. ctx ends with the stream. When the server stops, Receive returns what had come by then,
// and then an error with CodeLost; Send goes on.
type StreamHandler func(ctx context.Context, s *Stream) error

// A StreamInterceptor is put around the handlers of streams: it returns a StreamHandler that calls next, or does not.
type StreamInterceptor func(next StreamHandler) StreamHandler

// HandleStream sets what serves the streams of a method. It panics as Handle does.
func (s *Server) HandleStream(name string, handler StreamHandler) {
	s.add(&method{name: name, stream: handler}, handler == nil)
}

// A Stream is messages in both directions under one name: what a client opens with OpenStream, and a StreamHandler
// serves. Each direction has a window of 1 MiB: Send waits while the other side has that much unread, so that a
// stream that nobody reads costs a bounded amount and holds up nothing else. One goroutine may send and one may receive at a
// time.
type Stream struct {
	id    uint64
	ctx   context.Context
	write func(body []byte) error
	limit int             // Of what write takes.
	broke func(why error) // Told of the end by an error; nil for nobody.

	mu     sync.Mutex // Guards what follows.
	sender sync.Cond  // Waits for credit, or the end.
	ears   sync.Cond  // Waits for messages, or the end.

	credit   int    // What may still be sent.
	leaving  []byte // A message of typeData: those that are to be sent, each with its length before it. Empty without one.
	spare    []byte
	flushing bool  // A goroutine sends them.
	ended    bool  // This side sends nothing more.
	endSent  bool  // The other side was told.
	err      error // Why nothing works any more.

	allowed int    // What may still come.
	arrived []byte // Messages that nobody has received, each with its length before it.
	taken   []byte // The same, being handed out.
	reading []byte // What of taken is still to be handed out; its receiver's own.
	eaten   int    // What was received and not given back as credit.
	last    bool   // The other side sends nothing more.
	cut     *Error // Nothing more comes, although the other side has not said so.
}

func newStream(id uint64, ctx context.Context, write func(body []byte) error, limit uint64, credit int) *Stream {
	s := &Stream{id: id, ctx: ctx, write: write, limit: int(min(limit, math.MaxInt32)), credit: credit, allowed: window}
	s.sender.L, s.ears.L = &s.mu, &s.mu
	return s
}

// Context returns a context that ends with the stream.
func (s *Stream) Context() context.Context { return s.ctx }

// Send sends a message; the caller may reuse data. It waits while the other side has not read enough of what was sent
// before. After CloseSend, and once the stream has ended, it returns an *Error that says why.
func (s *Stream) Send(data []byte) error {
	size := len(data) + maxOverhead
	if size > s.limit {
		return &Error{Code: CodeTooLarge, Message: fmt.Sprintf("a message of %d bytes (udsipc.WithMaxMessageSize)", len(data))}
	}
	s.mu.Lock()
	for (s.credit <= 0 || len(s.leaving) > 0 && len(s.leaving)+size > min(maxBatch, s.limit)) && s.err == nil && !s.ended {
		s.sender.Wait()
	}
	err := s.err
	if err == nil && s.ended {
		err = &Error{Code: CodeFailedPrecondition, Message: "Send after CloseSend"}
	}
	if err != nil {
		s.mu.Unlock()
		return err
	}
	s.credit -= len(data) + messageCost
	if len(s.leaving) == 0 {
		s.leaving = appendID(duplex.Message{Type: typeData}.Append(s.leaving), s.id)
	}
	s.leaving = append(binary.AppendUvarint(s.leaving, uint64(len(data))), data...)
	flush := !s.flushing
	s.flushing = true
	s.mu.Unlock()
	if flush {
		go s.flush() // Ends when there is nothing to send.
	}
	return nil
}

// flush sends what is to be sent, as many messages at once as have come meanwhile.
func (s *Stream) flush() {
	for {
		s.mu.Lock()
		batch := s.leaving
		more := len(batch) > 0 && s.err == nil
		if s.flushing = more; more {
			s.leaving, s.spare = s.spare[:0], nil
		}
		s.sender.Broadcast()
		s.mu.Unlock()
		if !more {
			return
		}
		err := s.write(batch)
		s.mu.Lock()
		s.spare = batch
		if err != nil {
			s.failLocked(asError(err))
		}
		s.mu.Unlock()
	}
}

// Receive returns the next message; data is valid until the next call. io.EOF means that the other side has sent
// everything; any other error is an *Error.
func (s *Stream) Receive() (data []byte, err error) {
	if len(s.reading) == 0 {
		if err := s.refill(); err != nil {
			return nil, err
		}
	}
	length, size := binary.Uvarint(s.reading)
	data = s.reading[size : size+int(length) : size+int(length)]
	s.reading = s.reading[size+int(length):]
	if s.eaten += len(data) + messageCost; s.eaten >= window/2 && s.grant(s.eaten) == nil {
		s.eaten = 0 // Else the next message tries again.
	}
	return data, nil
}

// refill waits for messages and takes all that have come.
func (s *Stream) refill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.arrived) == 0 && !s.last && s.cut == nil && s.err == nil {
		s.ears.Wait()
	}
	switch {
	case len(s.arrived) > 0:
		s.arrived, s.taken = s.taken[:0], s.arrived
		s.reading = s.taken
		return nil
	case s.err != nil && !(s.last && errors.Is(s.err, context.Canceled)):
		return s.err
	case !s.last && s.cut != nil:
		return s.cut
	}
	return io.EOF
}

func (s *Stream) grant(n int) error {
	s.mu.Lock()
	s.allowed += n // Before the other side knows.
	s.mu.Unlock()
	err := s.sendGrant(n)
	if err != nil {
		s.mu.Lock()
		s.allowed -= n
		s.mu.Unlock()
	}
	return err
}

func (s *Stream) sendGrant(n int) error {
	return sendWith(s.write, typeCredit, func(b []byte) []byte { return binary.AppendUvarint(appendID(b, s.id), uint64(n)) })
}

// CloseSend tells the other side that nothing more comes: its Receive returns io.EOF behind what was sent. This side may
// receive on.
func (s *Stream) CloseSend() error {
	s.mu.Lock()
	s.ended = true
	s.sender.Broadcast()
	for s.flushing && s.err == nil {
		s.sender.Wait()
	}
	done, why := s.endSent, s.err
	s.mu.Unlock()
	if done {
		return nil
	}
	if why != nil {
		return why
	}
	if err := sendWith(s.write, typeEnd, func(b []byte) []byte { return appendID(b, s.id) }); err != nil {
		return asError(err)
	}
	s.mu.Lock()
	s.endSent = true
	s.mu.Unlock()
	return nil
}

// finish ends a handler's side. It returns what the other side has to be told.
func (s *Stream) finish() *Error {
	if err := s.CloseSend(); err != nil {
		return asError(err)
	}
	return nil
}

// take is what comes for the stream.
func (s *Stream) take(kind uint32, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch kind {
	case typeData:
		if !s.last && s.err == nil {
			cost, ok := costOf(data, s.allowed)
			if !ok {
				s.failLocked(&Error{Code: CodeUnknown, Message: "the other side sends what is no messages, or more than the window"})
				return fmt.Errorf("%w: the data of a stream", errMalformed)
			}
			s.allowed -= cost
			s.arrived = append(s.arrived, data...)
		}
	case typeCredit:
		r := reader{rest: data}
		n := r.number()
		if r.bad || n > maxWindow {
			return fmt.Errorf("%w: a credit of %d", errMalformed, n)
		}
		if s.cut == nil {
			s.credit = min(s.credit+int(n), maxWindow)
		}
		s.sender.Signal()
		return nil
	case typeEnd:
		s.last = true
	case typeError:
		s.failLocked(parseError(data))
	}
	s.ears.Signal()
	return nil
}

// costOf returns what messages, each with its length before it, cost of the window. It says no if b is something else, or
// if a message begins when nothing is left of what is allowed.
func costOf(b []byte, allowed int) (cost int, ok bool) {
	for len(b) > 0 {
		length, size := binary.Uvarint(b)
		if size <= 0 || length > uint64(len(b)-size) || cost >= allowed {
			return 0, false
		}
		cost += int(length) + messageCost
		b = b[size+int(length):]
	}
	return cost, true
}

// endInput says that nothing more comes, neither messages nor credit: what is sent is held up by the queue of the
// connection alone.
func (s *Stream) endInput() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = &Error{Code: CodeLost, Message: "the client has gone, or the server stops"}
	s.credit = math.MaxInt
	s.sender.Broadcast()
	s.ears.Broadcast()
}

// fail ends the stream.
func (s *Stream) fail(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLocked(asError(why))
}

func (s *Stream) failLocked(why error) {
	if s.err == nil {
		s.err = why
		if s.broke != nil {
			s.broke(why)
		}
	}
	s.sender.Broadcast()
	s.ears.Broadcast()
}
