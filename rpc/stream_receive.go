// SPDX-License-Identifier: Apache-2.0

package rpc

// This file is the receiving direction of a stream.

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/udsipc/udsipc/internal/seam"
)

// Receive returns the next message; data is valid until the next call. io.EOF means that the peer
// has sent everything, and that all of it was received; any other error is an *Error.
func (s *Stream) Receive() (data []byte, err error) {
	if len(s.unread) == 0 {
		if err := s.nextRun(); err != nil {
			return nil, err
		}
	}
	length, size := binary.Uvarint(s.unread)
	data = s.unread[size : size+int(length) : size+int(length)]
	s.unread = s.unread[size+int(length):]
	if s.unreturnedCredit += len(data) + messageCost; s.unreturnedCredit >= window/2 {
		s.returnCredit(s.unreturnedCredit)
		s.unreturnedCredit = 0
	}
	return data, nil
}

// nextRun makes the next run of messages the current one, and waits for it if necessary.
func (s *Stream) nextRun() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.releaseCurrentLocked()
	if s.incoming.empty() && s.connState != nil && s.connState.server.memory.isScarce() {
		s.freeSpareLocked() // Unused buffers count as used memory.
	}
	for s.incoming.empty() && !s.remoteClosed && s.inputErr == nil && s.err == nil {
		s.receivable.Wait()
	}
	switch {
	case !s.incoming.empty():
		s.incoming.current = s.incoming.pop()
		s.unread = s.incoming.current.data
		return nil
	case s.err != nil && (s.failureSent || !s.remoteClosed):
		return s.err
	case !s.remoteClosed && s.inputErr != nil:
		return s.inputErr
	}
	return io.EOF
}

// returnCredit allows the peer to send n bytes more. An error means that the connection has ended.
func (s *Stream) returnCredit(n int) {
	s.mu.Lock()
	s.receiveWindow += n // First: the peer may use the credit at once.
	handlerDone := s.handlerDone
	s.mu.Unlock()
	if handlerDone {
		return
	}
	_ = sendWith(s.out.credit, typeCredit,
		func(b []byte) []byte { return binary.AppendUvarint(appendID(b, s.id), uint64(n)) })
}

// onMessage handles a message of the stream. keep is KeepMessage for data. cause is set if the stream
// fails by it; the caller sends it to the peer.
func (s *Stream) onMessage(kind uint32, data []byte, keep func() seam.Buffer) (cause *Error, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch kind {
	case typeData:
		if cause, err = s.onDataLocked(data, keep); cause != nil {
			s.failLocked(cause)
			s.failureSent = true
			return cause, err
		}
	case typeCredit:
		r := fieldReader{rest: data}
		n := r.number()
		if r.bad || n > maxWindow {
			return nil, fmt.Errorf("%w: a credit of %d", errMalformed, n)
		}
		s.credit = min(s.credit+int(n), maxWindow)
		s.sendable.Signal()
		return nil, nil
	case typeEnd:
		s.remoteClosed = true
		if s.connState == nil && endsStream(kind, data) {
			s.handlerDone = true
			s.sendable.Broadcast()
		}
	case typeError:
		if s.err == nil {
			s.failureSent = true
		}
		s.failLocked(parseError(data))
	}
	s.receivable.Signal()
	return nil, nil
}

// endsStream reports whether a message of the server is the last of its stream.
func endsStream(kind uint32, data []byte) bool {
	return kind == typeError || kind == typeEnd && len(data) > 0 && data[0] == endOfHandler
}

func (s *Stream) onDataLocked(data []byte, keep func() seam.Buffer) (cause *Error, err error) {
	if s.remoteClosed || s.err != nil || s.handlerDone {
		return nil, nil
	}
	cost, ok := windowCost(data, s.receiveWindow)
	if !ok {
		cause = &Error{Code: CodeUnknown, Message: "flow-control violation or malformed stream data"}
		return cause, fmt.Errorf("%w: the data of a stream", errMalformed)
	}
	if len(data) > 0 && !s.enqueueLocked(data, keep) {
		return &Error{Code: CodeResourceExhausted, Message: fmt.Sprintf(
			"%d bytes more for a stream: the server holds as much as it may for this client: "+
				"send less at once, or raise the limit (Server.SetMaxMemory)", len(data))}, nil
	}
	s.receiveWindow -= cost
	return nil, nil
}

// windowCost returns the part of the window that the encoded messages in b use. ok is false if b is
// malformed, or if a message begins after the allowed bytes are used up.
func windowCost(b []byte, allowed int) (cost int, ok bool) {
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

// endInput ends the input of the stream: no message comes any more. noCredit reports that no credit
// comes either.
func (s *Stream) endInput(noCredit bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inputErr = &Error{Code: CodeConnectionLost, Message: "the client has gone, or the server stops"}
	s.noMoreCredit = s.noMoreCredit || noCredit
	s.sendable.Broadcast()
	s.receivable.Broadcast()
}
