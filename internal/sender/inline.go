// SPDX-License-Identifier: Apache-2.0

package sender

// This file sends without a goroutine that waits for messages. The goroutine that finds the queue
// idle writes, also what others add meanwhile, as long as the kernel takes it at once. The rest is
// for a goroutine that lives until the queue is empty.

import (
	"fmt"
	"net"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/transport"
)

// maxInlineBatches is how many writes a goroutine makes for others before another one goes on.
const maxInlineBatches = 4

// stallPiece is what a peer behind TLS, or a connection of a user's own, has to take in the stall timeout.
const stallPiece = 16 << 10

const _ = uint64(transport.BatchSize - stallPiece) // No constant of type uint64 is negative.

// An InlineConfig has the settings of an Inline.
type InlineConfig struct {
	Conn         net.Conn
	Queue        *queue.Queue
	StallTimeout time.Duration // How long the peer may take nothing; 0 for ever.
	CloseTimeout time.Duration // Of Finish, for its errors.
	Closing      func() bool   // Reports whether this side ends the connection.
	// Called once nothing can be sent any more; err matches ErrConnectionClosed, and
	// ErrBackpressure after StallTimeout.
	Failed func(err error)
}

// An Inline sends the messages of a queue over one connection. The goroutine that found the queue
// idle owns it until the queue is empty.
type Inline struct {
	cfg   InlineConfig
	queue *queue.Queue
	conn  net.Conn
	try   *transport.TryWriter // nil if a write may wait.
	bufs  [][]byte
	err   atomic.Pointer[error] // Why nothing can be sent any more.
}

// NewInline returns an Inline for a queue that is idle or owned by the caller.
func NewInline(cfg InlineConfig) *Inline {
	return &Inline{
		cfg: cfg, queue: cfg.Queue, conn: cfg.Conn, try: transport.NewTryWriter(cfg.Conn),
		bufs: make([][]byte, 0, transport.MaxVector),
	}
}

// Send writes what is queued, as long as that does not wait. A goroutine writes the rest.
func (s *Inline) Send() {
	if s.try == nil {
		go s.sendWaiting() // Ends with the queue or the connection.
		return
	}
	runtime.Gosched() // Others who are about to write can come along.
	for range maxInlineBatches {
		bufs := s.queue.NextBatch(s.bufs[:0], transport.BatchSize)
		if len(bufs) == 0 {
			return
		}
		n, full, err := s.try.Write(bufs)
		_, _ = s.queue.MarkWritten(n)
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
func (s *Inline) sendWaiting() {
	for {
		vector := net.Buffers(s.queue.NextBatch(s.bufs[:0], transport.BatchSize))
		if len(vector) == 0 {
			return
		}
		n, err := s.writeWaiting(vector)
		_, _ = s.queue.MarkWritten(int(n))
		if err != nil {
			s.onSendFailed(err)
			return
		}
	}
}

// writeWaiting writes some of vector, or all of it. It fails if the peer takes nothing for StallTimeout.
func (s *Inline) writeWaiting(vector net.Buffers) (n int64, err error) {
	if s.cfg.StallTimeout == 0 {
		return vector.WriteTo(s.conn)
	}
	if s.try == nil { // A part that was taken does not show: a TLS connection is corrupt after a timeout.
		vector = net.Buffers{vector[0][:min(len(vector[0]), stallPiece)]}
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.cfg.StallTimeout)); err != nil {
		return 0, err
	}
	n, err = vector.WriteTo(s.conn)
	switch {
	case !transport.IsTimeout(err):
	case n > 0 && s.try != nil:
		err = nil
	case s.cfg.Closing(): // TLS writes nothing more behind its end.
	default:
		return n, fmt.Errorf("%w: the peer has taken nothing for %v (WithStallTimeout)",
			errdefs.ErrBackpressure, s.cfg.StallTimeout)
	}
	return n, errdefs.First(err, s.conn.SetWriteDeadline(time.Time{})) // For a write that does not wait.
}

// onSendFailed notes why nothing can be sent any more.
func (s *Inline) onSendFailed(cause error) {
	err := fmt.Errorf("%w: %w", errdefs.ErrConnectionClosed, cause)
	s.err.CompareAndSwap(nil, &err)
	s.cfg.Failed(err)
}

// failure returns why nothing can be sent any more, or nil.
func (s *Inline) failure() error {
	if err := s.err.Load(); err != nil {
		return *err
	}
	return nil
}
