// SPDX-License-Identifier: Apache-2.0

package transport

// This file hands messages over in batches. They stay in the read buffer: Gather counts them there,
// Fill may read more behind them, and TakeBatch hands them over.

import (
	"time"

	"github.com/udsipc/udsipc/internal/buffers"
	"github.com/udsipc/udsipc/internal/wire"
)

// gathered are the complete messages at the front of the read buffer that Gather has counted and
// TakeBatch has not handed over.
type gathered struct {
	messages   int
	bytes      int // Of their frames, with the heartbeats in between.
	lastLength int // Length of the last of them.
	lastFrame  int // Size of its frame.
}

// Gather counts the complete messages at the front of the buffer, at most limit. final means that a
// wait for more would not add any, or that the connection must not hold the memory for it: the
// messages of a batch fill one read at most, or are one larger message. After 0, Next returns the
// reason.
func (in *In) Gather(limit int) (messages int, final bool) {
	g := &in.gathered
	if g.messages == 0 {
		*g = gathered{}
		if in.oversize.skipBytes > 0 {
			in.skipOversize()
		}
	}
	for g.messages < limit {
		b := in.input.bytes()[g.bytes:]
		length, header, err := wire.ParsePrefix(b)
		switch {
		case err != nil || length > in.limit:
			return g.messages, true
		case header == 0:
			in.input.wantBytes = 0
			return g.messages, in.mustTake()
		case length == 0 && header > 1 && in.session != nil:
			in.skipHeartbeat(header)
			continue
		}
		frame := header + int(length)
		end := g.bytes + frame
		switch {
		case g.messages > 0 && end > in.input.readSize:
			return g.messages, true
		case frame > len(b):
			in.input.wantBytes = end
			return g.messages, in.mustTake()
		}
		*g = gathered{messages: g.messages + 1, bytes: end, lastLength: int(length), lastFrame: frame}
	}
	return g.messages, true
}

// skipHeartbeat skips a heartbeat behind the gathered messages.
func (in *In) skipHeartbeat(size int) {
	if in.gathered.messages == 0 {
		in.input.r += size
	} else {
		in.gathered.bytes += size
	}
}

// mustTake reports whether the gathered messages must be taken although a batch has room for more.
func (in *In) mustTake() bool {
	return in.gathered.bytes >= in.input.readSize || in.holdsMemory() && in.input.memory.Contested()
}

// GatheredBytes returns the bytes of the messages that Gather has counted.
func (in *In) GatheredBytes() int { return in.gathered.bytes }

func (in *In) holdsMemory() bool { return in.input.reserved.Bytes > 0 }

// GatherDeadline returns the end of a wait for more messages that may last until deadline. Gathered
// messages that hold memory wait no longer than an incomplete message may.
func (in *In) GatherDeadline(now, deadline time.Time) time.Time {
	if in.holdsMemory() {
		return earliest(deadline, now.Add(maxMemoryHold))
	}
	return deadline
}

// TakeBatch hands over gathered messages, at most limit, and returns their number and frames. The frames
// are valid until the next read. In a session they are not handled yet.
func (in *In) TakeBatch(limit int) (messages int, frames []byte) {
	if in.end.halted.Load() {
		return 0, nil
	}
	if limit < in.gathered.messages {
		in.gathered = gathered{}
		in.Gather(limit)
	}
	g := in.gathered
	in.gathered = gathered{}
	// The time of the handler does not count for the message behind them, nor as inactivity.
	in.wait.frameStart, in.wait.lastMessageAt = time.Time{}, time.Time{}
	b := &in.input
	frames = b.buf.B[b.r : b.r+g.bytes : b.r+g.bytes]
	if b.largeFrameSize = 0; g.lastFrame > b.readSize && g.lastFrame <= buffers.MaxSize {
		b.largeFrameSize = g.lastFrame
	}
	b.r += g.bytes
	b.lastLength = g.lastLength
	in.counts.received.Add(uint64(g.messages))
	if in.session != nil {
		in.session.unhandled = uint64(g.messages)
	}
	return g.messages, frames
}

// FirstMessage returns the first message in frames of TakeBatch, and the frames behind it.
func (in *In) FirstMessage(frames []byte) (data, rest []byte) {
	for {
		length, header := uint64(frames[0]), 1
		if length >= 0x80 {
			length, header, _ = wire.ParsePrefix(frames)
			if length == 0 && in.session != nil {
				frames = frames[header:] // A heartbeat.
				continue
			}
		}
		end := header + int(length)
		return frames[header:end:end], frames[end:]
	}
}

// BeginBatches has ackOnTimer acknowledge what MarkBatchHandled has recorded. It is called before the
// first message.
func (s *AckSender) BeginBatches() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inBatches = true
	s.batchHandled.Store(s.handledBefore)
}

// MarkBatchHandled records that the first messages of those that TakeBatch has handed over, and that were
// not handled, are handled.
func (s *AckSender) MarkBatchHandled(messages int) {
	s.unhandled -= uint64(messages)
	s.batchHandled.Store(s.Handled())
	s.unackedMessages += messages
}

// RedeliveredThrough returns the last message that an earlier reader, or a handler that failed, may
// have handled.
func (s *AckSender) RedeliveredThrough() uint64 { return s.maybeHandledThrough }

// Halted returns a channel that is closed by Halt. Any goroutine may call it.
func (in *In) Halted() <-chan struct{} { return in.end.cancelled }
