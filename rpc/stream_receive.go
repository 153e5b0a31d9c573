// SPDX-License-Identifier: Apache-2.0

package rpc

// This file is the receiving direction of a stream.

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Receive returns the next message; data is valid until the next call. io.EOF means that the peer
// has sent everything, and that all of it was received; any other error is an *Error.
func (s *Stream) Receive() (data []byte, err error) {
	if len(s.reading) == 0 {
		if err := s.refill(); err != nil {
			return nil, err
		}
	}
	length, size := binary.Uvarint(s.reading)
	data = s.reading[size : size+int(length) : size+int(length)]
	s.reading = s.reading[size+int(length):]
	if s.eaten += len(data) + messageCost; s.eaten >= window/2 {
		s.grant(s.eaten)
		s.eaten = 0
	}
	return data, nil
}

// refill waits for messages and takes all that have come.
func (s *Stream) refill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.arrived) == 0 && s.session != nil && s.session.server.memory.scarce() {
		s.letGoLocked(&s.taken) // What it keeps for the next messages is counted.
		s.letGoLocked(&s.arrived)
	}
	for len(s.arrived) == 0 && !s.last && s.cut == nil && s.err == nil {
		s.ears.Wait()
	}
	switch {
	case len(s.arrived) > 0:
		s.arrived, s.taken = s.taken[:0], s.arrived
		s.reading = s.taken
		return nil
	case s.err != nil && (s.told || !s.last):
		return s.err
	case !s.last && s.cut != nil:
		return s.cut
	}
	return io.EOF
}

// grant has the other side send as much more. If it cannot be told, the connection has ended.
func (s *Stream) grant(n int) {
	s.mu.Lock()
	s.allowed += n // Before the other side knows.
	over := s.over
	s.mu.Unlock()
	if over {
		return
	}
	_ = sendWith(s.out.credit, typeCredit, func(b []byte) []byte { return binary.AppendUvarint(appendID(b, s.id), uint64(n)) })
}

// take is what comes for the stream. why is set if the stream fails by it, which the other side has to be told.
func (s *Stream) take(kind uint32, data []byte) (why *Error, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch kind {
	case typeData:
		if why, err = s.takeDataLocked(data); why != nil {
			s.failLocked(why)
			s.told = true
			return why, err
		}
	case typeCredit:
		r := reader{rest: data}
		n := r.number()
		if r.bad || n > maxWindow {
			return nil, fmt.Errorf("%w: a credit of %d", errMalformed, n)
		}
		s.credit = min(s.credit+int(n), maxWindow)
		s.sender.Signal()
		return nil, nil
	case typeEnd:
		s.last = true
		if s.session == nil && ends(kind, data) {
			s.over = true
			s.sender.Broadcast()
		}
	case typeError:
		if s.err == nil {
			s.told = true
		}
		s.failLocked(parseError(data))
	}
	s.ears.Signal()
	return nil, nil
}

// ends says whether a message of the server is the last of its stream.
func ends(kind uint32, data []byte) bool {
	return kind == typeError || kind == typeEnd && len(data) > 0 && data[0] == endOfHandler
}

func (s *Stream) takeDataLocked(data []byte) (why *Error, err error) {
	if s.last || s.err != nil || s.over {
		return nil, nil
	}
	cost, ok := costOf(data, s.allowed)
	if !ok {
		why = &Error{Code: CodeUnknown, Message: "flow-control violation or malformed stream data"}
		return why, fmt.Errorf("%w: the data of a stream", errMalformed)
	}
	arrived := append(s.arrived, data...)
	if more := cap(arrived) - cap(s.arrived); s.session != nil && more > 0 {
		memory := &s.session.server.memory
		if !memory.take(&s.session.held, &memory.streams, more) {
			return &Error{Code: CodeTooManyCalls, Message: fmt.Sprintf("%d bytes more for a stream: the server holds as much as it may for this client (LimitMemory)", len(data))}, nil
		}
	}
	s.arrived = arrived
	s.allowed -= cost
	return nil, nil
}

// letGoLocked frees the memory of arrived or taken.
func (s *Stream) letGoLocked(b *[]byte) {
	if n := cap(*b); s.session != nil && n > 0 {
		memory := &s.session.server.memory
		memory.give(&s.session.held, &memory.streams, n)
	}
	*b = nil
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

// endInput says that no messages come any more, and no credit either if the other side is deaf.
func (s *Stream) endInput(deaf bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = &Error{Code: CodeLost, Message: "the client has gone, or the server stops"}
	s.deaf = s.deaf || deaf
	s.sender.Broadcast()
	s.ears.Broadcast()
}
