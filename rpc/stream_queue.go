// SPDX-License-Identifier: Apache-2.0

package rpc

// This file has the received messages of a stream that Receive has not returned. They stay in the
// memory into which the connection has read them. Few bytes are copied, so that they do not hold the
// memory of many.

import "github.com/udsipc/udsipc/internal/seam"

const (
	// minKept is the smallest number of bytes that is not copied.
	minKept = 4 << 10
	// maxKeptMemory limits the memory that the messages of one stream keep from connections.
	maxKeptMemory = 2 * window
)

// A messageRun is a run of messages, each with its length.
type messageRun struct {
	data   []byte
	memory seam.Buffer // Holds data; nil for a copy.
	charge int         // Bytes that are charged for it: the memory, or the capacity of data.
}

// A receiveQueue holds runs in the order in which they have arrived: runs[first:].
type receiveQueue struct {
	runs    []messageRun
	first   int
	current messageRun // Receive returns its messages.
	kept    int        // The part of the charges that is for memory.
	spare   messageRun // The empty memory of a copy, for the next one.
}

func (q *receiveQueue) empty() bool { return q.first == len(q.runs) }

func (q *receiveQueue) pop() (r messageRun) {
	r, q.runs[q.first] = q.runs[q.first], messageRun{}
	if q.first++; q.empty() {
		q.runs, q.first = q.runs[:0], 0
	}
	return r
}

func (q *receiveQueue) push(r messageRun) {
	if q.first > 0 && len(q.runs) == cap(q.runs) {
		n := copy(q.runs, q.runs[q.first:])
		clear(q.runs[n:])
		q.runs, q.first = q.runs[:n], 0
	}
	q.runs = append(q.runs, r)
}

// last returns the newest run, or nil if the queue is empty.
func (q *receiveQueue) last() *messageRun {
	if q.empty() {
		return nil
	}
	return &q.runs[len(q.runs)-1]
}

// enqueueLocked adds received messages. It returns false if the server has no memory for them.
func (s *Stream) enqueueLocked(data []byte, keep func() seam.Buffer) bool {
	if len(data) >= minKept && keep != nil && s.incoming.kept < maxKeptMemory &&
		(s.connState == nil || !s.connState.server.memory.isScarce()) && s.keepLocked(data, keep()) {
		return true
	}
	return s.copyLocked(data)
}

// keepLocked adds messages without a copy. It returns false if that is not possible.
func (s *Stream) keepLocked(data []byte, memory seam.Buffer) bool {
	if memory == nil {
		return false
	}
	r := messageRun{data: data, memory: memory}
	if last := s.incoming.last(); last != nil && last.memory == memory {
		r.charge, last.charge = last.charge, 0 // The memory is charged once, until its last run.
	} else if !s.chargeLocked(&r, len(memory.Bytes())) {
		memory.Release()
		return false
	}
	s.incoming.push(r)
	return true
}

// copyLocked adds a copy of messages. It returns false if the server has no memory for them.
func (s *Stream) copyLocked(data []byte) bool {
	last := s.incoming.last()
	if last == nil || last.memory != nil {
		r := s.incoming.spare
		s.incoming.spare = messageRun{}
		r.data = append(r.data, data...)
		if !s.chargeLocked(&r, cap(r.data)) {
			s.freeLocked(&r)
			return false
		}
		s.incoming.push(r)
		return true
	}
	grown := *last
	grown.data = append(last.data, data...)
	if !s.chargeLocked(&grown, cap(grown.data)) {
		return false
	}
	*last = grown
	return true
}

// chargeLocked charges a run with size bytes in all, and reports whether the server has so much.
func (s *Stream) chargeLocked(r *messageRun, size int) bool {
	more := size - r.charge
	if s.connState != nil && more > 0 {
		memory := &s.connState.server.memory
		if !memory.tryReserve(&s.connState.usedBytes, &memory.streams, more) {
			return false
		}
	}
	if r.charge = size; r.memory != nil {
		s.incoming.kept += more
	}
	return true
}

// freeLocked frees the memory of a run.
func (s *Stream) freeLocked(r *messageRun) {
	if s.connState != nil && r.charge > 0 {
		memory := &s.connState.server.memory
		memory.release(&s.connState.usedBytes, &memory.streams, r.charge)
	}
	if r.memory != nil {
		s.incoming.kept -= r.charge
		r.memory.Release()
	}
	*r = messageRun{}
}

// releaseCurrentLocked frees the run whose messages Receive has returned.
func (s *Stream) releaseCurrentLocked() {
	q := &s.incoming
	if q.current.memory == nil && q.spare.data == nil {
		q.spare, q.current = q.current, messageRun{}
		q.spare.data = q.spare.data[:0]
		return
	}
	s.freeLocked(&q.current)
}

func (s *Stream) freeSpareLocked() { s.freeLocked(&s.incoming.spare) }

// freeIncomingLocked frees all received messages. The last one that Receive has returned may still be
// in use: its memory is not used again.
func (s *Stream) freeIncomingLocked() {
	for !s.incoming.empty() {
		r := s.incoming.pop()
		s.freeLocked(&r)
	}
	s.freeSpareLocked()
	if r := &s.incoming.current; r.memory != nil {
		s.incoming.kept -= r.charge
		r.memory = nil
	}
	s.freeLocked(&s.incoming.current)
}
