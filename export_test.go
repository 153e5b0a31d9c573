// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is all that the tests see of what is private.

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

var (
	MaxSocketPath   = maxSocketPath
	ParseActivation = parseActivation
	ParseWatchdog   = parseWatchdog
	ErrStoreFull    = errStoreFull
)

// CanTellUnread says that the kernel knows what a peer has read.
const CanTellUnread = canTellUnread

// LastWords is what a Writer makes of b, which its reader sent in pieces of size bytes.
func LastWords(b []byte, size int) (heard bool, report EndReport, foreign bool) {
	var l goodbyeReader
	for len(b) > 0 {
		n := copy(l.free(), b[:min(size, len(b))])
		heard = l.add(n) || heard
		b = b[n:]
	}
	r := l.report
	return heard, EndReport{uint64(r.reason), r.firstUnread, r.skipped, r.limit}, l.notProtocol
}

// Acknowledge hands b, which a reader sent after the welcome, to a queue of so many messages, of which so
// many are sent and the next is half sent. It returns how many were acknowledged, and how many are left.
func Acknowledge(b []byte, messages, sent int) (acknowledged, left uint64, err error) {
	q := newQueue(queueLimits{messages: 1000, bytes: 1 << 20, acks: true})
	for range messages {
		if err := q.enqueueAndWake([]byte("message")); err != nil {
			return 0, 0, err
		}
	}
	bufs := q.nextBatch(make([][]byte, 0, maxVector), batchSize)
	if len(bufs) > 0 {
		half := 0
		if sent < messages {
			half = 3
		}
		if _, err := q.markWritten(8*sent + half); err != nil {
			return 0, 0, err
		}
	}
	o := newOutbound(&pieceConn{pieces: [][]byte{b}}, time.Second)
	o.back = &backChannel{acknowledge: q.acknowledge}
	if err = o.readAcks(func() {}); err == io.EOF {
		err = nil
	}
	counts, _ := q.snapshot()
	if uint64(sent)-counts.sent != counts.unacknowledged {
		err = errors.Join(err, fmt.Errorf("%d unacknowledged, %d of %d sent are acknowledged", counts.unacknowledged, counts.sent, sent))
	}
	return counts.sent, counts.queued, err
}

// ParseAddress returns the parts of an address, and how it is written.
func ParseAddress(text string) (network, name, written string, file bool, err error) {
	a, err := parseAddress(text)
	return a.network, a.name, a.String(), a.isFile(), err
}

// Decode does what a Reader's connection does (stream.serve) with pieces that come one at a time.
// The error is the first one, io.ErrUnexpectedEOF at the end of the pieces in the middle of a message.
func Decode(limit uint64, bufSize uint32, pieces [][]byte) (messages [][]byte, err error) {
	return DecodeConn(limit, bufSize, &pieceConn{pieces: pieces})
}

// DecodeConn is Decode with what comes from conn, which stays open.
func DecodeConn(limit uint64, bufSize uint32, conn net.Conn) (messages [][]byte, err error) {
	limits := inLimits{maxMessageSize: min(limit, maxMessageLimit), readSize: int(bufSize)}
	in := newInbound(conn, limits, &readMemory{limit: 1 << 30})
	defer in.releaseBuffer()
	for {
		refused := in.deliver(func(data []byte) {
			messages = append(messages, append([]byte{}, data...))
			if cap(data) != len(data) {
				err = errors.Join(err, errors.New("appending to a message would touch the next one"))
			}
		})
		err = firstError(err, refused)
		if refused != nil && !errors.Is(refused, ErrMessageTooLarge) {
			return messages, err
		}
		if refused != nil {
			in.requestClose(closeOrderly)
			continue
		}
		if ended := in.fill(); ended != nil {
			if ended == io.EOF && in.partialBytes() > 0 {
				ended = io.ErrUnexpectedEOF
			}
			if ended != io.EOF {
				err = firstError(err, ended)
			}
			return messages, err
		}
	}
}

// HasRead says whether the peer of conn has read everything, as far as the kernel can tell.
func HasRead(conn net.Conn) bool {
	_, raw := kindOf(conn)
	bytes, ok := unread(raw)
	return !ok || bytes == 0
}

// A pieceConn is read piece by piece.
type pieceConn struct {
	net.Conn // nil; what is not below is not called.
	pieces   [][]byte
}

func (c *pieceConn) Read(b []byte) (int, error) {
	for len(c.pieces) > 0 && len(c.pieces[0]) == 0 {
		c.pieces = c.pieces[1:]
	}
	if len(c.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.pieces[0])
	c.pieces[0] = c.pieces[0][n:]
	return n, nil
}

func (c *pieceConn) Write(b []byte) (int, error)      { return len(b), nil }
func (c *pieceConn) SetReadDeadline(time.Time) error  { return nil }
func (c *pieceConn) SetWriteDeadline(time.Time) error { return nil }

// Slots is how many descriptors this process has left with systemd.
func Slots() int64 { return storedCount.Load() }

// ReclaimAfterAnother has a writer connect again before what an earlier process has left of it is taken over.
func ReclaimAfterAnother() error {
	m := newWriterStates(10, time.Hour)
	key := writerKey{identity: "uid 0", writer: id{1}}
	left := writerSnapshot{key: key, epoch: 1, handled: 5}
	m.restore([]writerSnapshot{left}, time.Now())
	c, err := m.acquire(key.identity, hello{writer: key.writer, epoch: 2, firstSeq: 6, lastSentSeq: 9}, func() {})
	if err != nil {
		return err
	}
	c.release(9, 0)
	_, err = m.acquireInherited(key, left, func() {})
	return err
}

// MemoryTurns has one connection of each of these users wait for memory, one after the other, while all of it is taken.
// Then one at a time gets some. A message needs so many steps, one after the other. It returns in which order they
// were served.
func MemoryTurns(users []string, steps int) (order []int) {
	const size = 1 << 20
	b := readMemory{limit: size}
	var first, second reservation
	b.TryReserve(&first, size)
	b.Reserve(&second, size) // Beyond the limit.
	loans, turns, left := make([]reservation, len(users)), make([]<-chan struct{}, len(users)), make([]int, len(users))
	for i, user := range users {
		loans[i].user, left[i] = user, steps
		turns[i] = b.Reserve(&loans[i], size)
	}
	b.Release(&first, size)
	for len(order) < steps*len(users) {
		for i, turn := range turns {
			select {
			case <-turn:
			default:
				continue
			}
			order = append(order, i)
			turns[i] = nil
			if left[i]--; left[i] > 0 {
				turns[i] = b.Reserve(&loans[i], 2*size) // It waits with what it has, and is the only one who has any.
				b.Release(&loans[i], size)
			} else {
				b.Release(&loans[i], loans[i].bytes)
			}
			break
		}
	}
	return order
}

// Flushers is how many calls of Flush a Writer remembers.
func Flushers(w *Writer) int {
	w.queue.mu.Lock()
	defer w.queue.mu.Unlock()
	n := 0
	for f := w.queue.flushers.first; f != nil; f = f.next {
		n++
	}
	return n
}

// DiscardResumed plays the end of a connection that an earlier process has read from: what has come is read, and
// not handled, because Stop does not wait any longer.
func DiscardResumed(conn net.Conn) error {
	r, err := NewReader(func([]byte) error { return nil }, "x")
	if err != nil {
		return err
	}
	s := r.server
	limits := s.cfg.in
	limits.inherited = true
	c := &stream{connection: &connection{server: s, in: newInbound(conn, limits, s.cfg.readMemory)}}
	err = c.in.fill()
	c.in.halt()
	c.discardUnhandled()
	c.in.releaseBuffer()
	c.in.close()
	return err
}
