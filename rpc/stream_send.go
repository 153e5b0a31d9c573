// SPDX-License-Identifier: Apache-2.0

package rpc

// This file is the sending direction of a stream.

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/seam"
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
	for s.sendErrorLocked() == nil && (s.credit <= 0 || !s.fitsBatchLocked(size)) {
		if s.credit > 0 && !s.waiting && s.enqueueBatch() == nil {
			continue
		}
		s.sendable.Wait()
	}
	if err := s.sendErrorLocked(); err != nil {
		s.mu.Unlock()
		return err
	}
	s.credit -= len(data) + messageCost
	s.appendMessageLocked(data)
	flush := !s.flushing
	s.flushing = true
	s.mu.Unlock()
	if flush {
		go s.flush() // Ends when nothing is queued.
	}
	return nil
}

// fitsBatchLocked reports whether a message of size bytes, the overhead included, can be added to the batch.
func (s *Stream) fitsBatchLocked(size int) bool {
	return s.outgoing == nil || s.outgoingEnd+size <= min(maxBatch, s.limit)
}

// appendMessageLocked adds a message that fits to the batch.
func (s *Stream) appendMessageLocked(data []byte) {
	if s.outgoing == nil {
		s.outgoing, s.outgoingEnd = seam.NewBuffer(max(maxBatch, batchHead+len(data)+maxOverhead)), batchHead
	}
	b := binary.AppendUvarint(s.outgoing.Bytes()[:s.outgoingEnd], uint64(len(data)))
	s.outgoingEnd = len(append(b, data...))
}

// takeBatchLocked returns the batch as an encoded typeData message: memory.Bytes()[from:to].
func (s *Stream) takeBatchLocked() (memory seam.Buffer, from, to int) {
	var head [batchHead]byte
	b := appendID(appendType(head[:0], typeData), s.id)
	memory, from, to = s.outgoing, batchHead-len(b), s.outgoingEnd
	copy(memory.Bytes()[from:], b)
	s.outgoing = nil
	return memory, from, to
}

// enqueueBatch queues the batch if the queue has space. It is called with mu held, and releases it
// while it writes. The error is udsipc.ErrBufferFull; the stream fails with any other.
func (s *Stream) enqueueBatch() error {
	if s.out.enqueue == nil {
		return udsipc.ErrBufferFull
	}
	memory, from, to := s.takeBatchLocked()
	idle, err := s.out.enqueue(memory, from, to)
	switch {
	case errors.Is(err, udsipc.ErrBufferFull):
		s.outgoing = memory
		return err
	case err != nil:
		memory.Release()
		s.failLocked(asError(err))
		return nil
	}
	if idle {
		s.mu.Unlock()
		s.out.write()
		s.mu.Lock()
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

// flush queues batches until there is none. It waits while the queue is full.
func (s *Stream) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.sendable.Broadcast()
	for s.outgoing != nil && s.err == nil {
		if s.enqueueBatch() == nil {
			continue
		}
		memory, from, to := s.takeBatchLocked()
		s.waiting = true
		s.sendable.Broadcast()
		s.mu.Unlock()
		err := s.out.data(memory.Bytes()[from:to])
		memory.Release()
		s.mu.Lock()
		s.waiting = false
		if err != nil {
			s.failLocked(asError(err))
		}
	}
	if s.flushing = false; s.outgoing != nil {
		s.outgoing.Release()
		s.outgoing = nil
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
