// SPDX-License-Identifier: Apache-2.0

package rpc

// This file is the sending direction of a stream.

import (
	"encoding/binary"
	"fmt"
)

// Send sends a message; the caller may reuse data. It blocks while the peer has the window unread.
// After CloseSend, and after the end of the stream, it returns an *Error with the reason.
func (s *Stream) Send(data []byte) error {
	size := len(data) + maxOverhead
	if size > s.limit {
		return &Error{
			Code:    CodeTooLarge,
			Message: fmt.Sprintf("a message of %d bytes (udsipc.WithMaxMessageSize)", len(data)),
		}
	}
	s.mu.Lock()
	for s.sendErrorLocked() == nil &&
		(s.credit <= 0 || len(s.outgoing) > 0 && len(s.outgoing)+size > min(maxBatch, s.limit)) {
		s.sendable.Wait()
	}
	if err := s.sendErrorLocked(); err != nil {
		s.mu.Unlock()
		return err
	}
	s.credit -= len(data) + messageCost
	if len(s.outgoing) == 0 {
		if cap(s.outgoing) == 0 {
			s.outgoing = takeBytes()
		}
		s.outgoing = appendID(appendType(s.outgoing, typeData), s.id)
	}
	s.outgoing = append(binary.AppendUvarint(s.outgoing, uint64(len(data))), data...)
	flush := !s.flushing
	s.flushing = true
	s.mu.Unlock()
	if flush {
		go s.flush() // Ends when nothing is queued.
	}
	return nil
}

// sendErrorLocked returns the reason why nothing can be sent, or nil.
func (s *Stream) sendErrorLocked() error {
	switch {
	case s.err != nil:
		return s.err
	case s.localClosed:
		return &Error{Code: CodeFailedPrecondition, Message: "Send after CloseSend"}
	case s.sendErr != nil:
		return s.sendErr
	case s.handlerDone:
		return &Error{Code: CodeFailedPrecondition, Message: "the handler of the stream has returned"}
	case s.noMoreCredit && s.credit <= 0:
		return s.inputErr
	}
	return nil
}

// flush sends the queued messages in batches until none is left.
func (s *Stream) flush() {
	for {
		s.mu.Lock()
		batch := s.outgoing
		more := len(batch) > 0 && s.err == nil
		if s.flushing = more; more {
			s.outgoing, s.spare = s.spare[:0], nil
		} else { // An idle stream holds no buffer.
			keepBytes(s.outgoing)
			keepBytes(s.spare)
			s.outgoing, s.spare = nil, nil
		}
		s.sendable.Broadcast()
		s.mu.Unlock()
		if !more {
			return
		}
		err := s.out.data(batch)
		s.mu.Lock()
		s.spare = batch
		if err != nil {
			s.failLocked(asError(err))
		}
		s.mu.Unlock()
	}
}

// CloseSend ends the sending direction: Receive of the peer returns io.EOF after the messages that
// were sent. This side may still receive.
func (s *Stream) CloseSend() error {
	s.mu.Lock()
	s.endSendingLocked()
	done, cause := s.closeSent || s.handlerDone, s.err
	s.closeSent = done || cause == nil
	s.mu.Unlock()
	if done {
		return nil
	}
	if cause != nil {
		return cause
	}
	if err := sendWith(s.out.end, typeEnd, func(b []byte) []byte { return appendID(b, s.id) }); err != nil {
		return asError(err) // The connection has ended, and the stream with it.
	}
	return nil
}

// endSendingLocked refuses further messages, and waits until the queued ones are sent.
func (s *Stream) endSendingLocked() {
	s.localClosed = true
	s.sendable.Broadcast()
	for s.flushing && s.err == nil {
		s.sendable.Wait()
	}
}

// stopSending refuses further messages with an error, because the peer reads no more. It waits
// until the queued ones are sent.
func (s *Stream) stopSending(cause *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sendErr = cause
	s.sendable.Broadcast()
	for s.flushing && s.err == nil {
		s.sendable.Wait()
	}
}
