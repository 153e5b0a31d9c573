// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file sends without a goroutine that waits for messages. The goroutine that finds the queue idle writes, also what
// others add meanwhile, as long as the kernel takes it at once. The rest is for a goroutine that lives until the queue is
// empty.

import (
	"fmt"
	"net"
	"runtime"
	"sync/atomic"
	"time"
)

// maxInlineBatches is how many writes a goroutine makes for others before another one goes on.
const maxInlineBatches = 4

// stallPiece is what a peer behind TLS, or a connection of a user's own, has to take in the stall timeout.
const stallPiece = 16 << 10

const _ = uint64(batchSize - stallPiece) // No constant of type uint64 is negative.

// An inlineConfig is what an inline needs to know.
type inlineConfig struct {
	conn         net.Conn
	queue        *queue
	stallTimeout time.Duration   // How long the peer may take nothing; 0 for ever.
	closeTimeout time.Duration   // Of finish, for its errors.
	closing      func() bool     // Reports whether this side ends the connection.
	failed       func(err error) // Called once nothing can be sent any more; err matches errConnectionClosed, and errBackpressure after stallTimeout.
}

// An inline sends the messages of a queue over one connection. The goroutine that found the queue idle owns it until the
// queue is empty.
type inline struct {
	cfg   inlineConfig
	queue *queue
	conn  net.Conn
	try   *tryWriter // nil if a write may wait.
	bufs  [][]byte
	err   atomic.Pointer[error] // Why nothing can be sent any more.
}

func newInline(cfg inlineConfig) *inline {
	return &inline{cfg: cfg, queue: cfg.queue, conn: cfg.conn, try: newTryWriter(cfg.conn), bufs: make([][]byte, 0, maxVector)}
}

// send writes what is queued, as long as that does not wait. A goroutine writes the rest.
func (s *inline) send() {
	if s.try == nil {
		go s.sendWaiting() // Ends with the queue or the connection.
		return
	}
	runtime.Gosched() // Others who are about to write can come along.
	for range maxInlineBatches {
		bufs := s.queue.nextBatch(s.bufs[:0], batchSize)
		if len(bufs) == 0 {
			return
		}
		n, full, err := s.try.write(bufs)
		_, _ = s.queue.markWritten(n)
		switch {
		case full:
			go s.sendWaiting() // Ends with the queue or the connection.
			return
		case err != nil:
			s.onSendFailed(err)
			return
		}
	}
	go s.sendWaiting() // Ends with the queue or the connection.
}

// sendWaiting writes what is queued, and waits for the peer as long as it takes.
func (s *inline) sendWaiting() {
	for {
		vector := net.Buffers(s.queue.nextBatch(s.bufs[:0], batchSize))
		if len(vector) == 0 {
			return
		}
		n, err := s.writeWaiting(vector)
		_, _ = s.queue.markWritten(int(n))
		if err != nil {
			s.onSendFailed(err)
			return
		}
	}
}

// writeWaiting writes some of vector, or all of it. It fails if the peer takes nothing for stallTimeout.
func (s *inline) writeWaiting(vector net.Buffers) (n int64, err error) {
	if s.cfg.stallTimeout == 0 {
		return vector.WriteTo(s.conn)
	}
	if s.try == nil { // A part that was taken does not show: a TLS connection is corrupt after a timeout.
		vector = net.Buffers{vector[0][:min(len(vector[0]), stallPiece)]}
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.cfg.stallTimeout)); err != nil {
		return 0, err
	}
	n, err = vector.WriteTo(s.conn)
	switch {
	case !isTimeout(err):
	case n > 0 && s.try != nil:
		err = nil
	case s.cfg.closing(): // TLS writes nothing more behind its end.
	default:
		return n, fmt.Errorf("%w: the peer has taken nothing for %v (WithStallTimeout)", errBackpressure, s.cfg.stallTimeout)
	}
	return n, firstError(err, s.conn.SetWriteDeadline(time.Time{})) // For a write that does not wait.
}

// onSendFailed notes why nothing can be sent any more.
func (s *inline) onSendFailed(cause error) {
	err := fmt.Errorf("%w: %w", errConnectionClosed, cause)
	s.err.CompareAndSwap(nil, &err)
	s.cfg.failed(err)
}

// failure returns why nothing can be sent any more, or nil.
func (s *inline) failure() error {
	if err := s.err.Load(); err != nil {
		return *err
	}
	return nil
}
