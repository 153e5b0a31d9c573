// SPDX-License-Identifier: Apache-2.0

package sender

// This file sends without a goroutine that waits for messages. The goroutine that finds the queue
// idle writes, also messages that others add meanwhile, while the kernel accepts them at once.
// Another goroutine writes the rest and ends when the queue is empty.

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

// maxInlineBatches is how many batches the calling goroutine writes before it leaves the rest to
// another one.
const maxInlineBatches = 4

// loneSends is how many sends in a row have a single message until the next ones do not yield. A
// goroutine that sends alone would only pay for it: the scheduler wakes another thread each time. One
// send in loneProbe yields nevertheless, to find out.
const (
	loneSends = 16
	loneProbe = 256
)

// stallPiece is how many bytes the peer must accept within StallTimeout if partial writes are not
// visible: over TLS, or over a connection of the program's own type.
const stallPiece = 16 << 10

const _ = uint64(transport.BatchSize - stallPiece) // A negative uint64 does not compile.

// An InlineConfig has the settings of an Inline.
type InlineConfig struct {
	Conn         net.Conn
	Queue        *queue.Queue
	StallTimeout time.Duration // How long the peer may accept nothing; 0: no limit.
	CloseTimeout time.Duration // The limit of Finish, for its errors.
	Closing      func() bool   // Reports whether this side closes the connection.
	// Failed is called once, when nothing more can be sent. err matches ErrConnectionClosed and,
	// after StallTimeout, ErrBackpressure.
	Failed func(err error)
}

// An Inline sends the messages of a queue over one connection. The goroutine that finds the queue
// idle owns it until the queue is empty.
type Inline struct {
	cfg   InlineConfig
	queue *queue.Queue
	conn  net.Conn
	try   *transport.TryWriter // nil if the connection has only blocking writes.
	bufs  [][]byte
	err   atomic.Pointer[error] // The first failure; nothing more can be sent after it.

	lone int // The last sends that had a single message. Owned by the goroutine that owns the queue.
}

// NewInline returns an Inline for a queue that is idle or owned by the caller.
func NewInline(cfg InlineConfig) *Inline {
	return &Inline{
		cfg: cfg, queue: cfg.Queue, conn: cfg.Conn, try: transport.NewTryWriter(cfg.Conn),
		bufs: make([][]byte, 0, transport.MaxVector),
	}
}

// Send writes the queued messages while the kernel accepts them at once. Another goroutine writes
// the rest.
func (s *Inline) Send() {
	if s.try == nil {
		go s.sendWaiting() // Ends with the queue or the connection.
		return
	}
	if s.lone < loneSends || s.lone%loneProbe == 0 {
		runtime.Gosched() // Other goroutines can add their messages to the batch.
	}
	s.lone++
	for range maxInlineBatches {
		bufs := s.queue.NextBatch(s.bufs[:0], transport.BatchSize)
		if len(bufs) == 0 {
			return
		}
		n, full, err := s.try.Write(bufs)
		clear(bufs) // Otherwise s.bufs would keep the memory from the garbage collector.
		if messages, _ := s.queue.MarkWritten(n); messages > 1 {
			s.lone = 0
		}
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

// sendWaiting writes the queued messages, and waits for the peer as long as necessary.
func (s *Inline) sendWaiting() {
	for {
		vector := net.Buffers(s.queue.NextBatch(s.bufs[:0], transport.BatchSize))
		if len(vector) == 0 {
			return
		}
		n, err := s.writeWaiting(vector)
		clear(vector)
		_, _ = s.queue.MarkWritten(int(n))
		if err != nil {
			s.onSendFailed(err)
			return
		}
	}
}

// writeWaiting writes all or a part of vector. It fails if the peer accepts nothing for
// StallTimeout.
func (s *Inline) writeWaiting(vector net.Buffers) (n int64, err error) {
	if s.cfg.StallTimeout == 0 {
		return vector.WriteTo(s.conn)
	}
	if s.try == nil { // Partial writes are not visible, and a TLS connection is corrupt after a timeout.
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
	case s.cfg.Closing(): // TLS writes nothing after close_notify.
	default:
		return n, fmt.Errorf("%w: the peer has taken nothing for %v (WithStallTimeout)",
			errdefs.ErrBackpressure, s.cfg.StallTimeout)
	}
	return n, errdefs.First(err, s.conn.SetWriteDeadline(time.Time{})) // For the next non-blocking write.
}

// onSendFailed stores the first failure and calls Failed.
func (s *Inline) onSendFailed(cause error) {
	err := fmt.Errorf("%w: %w", errdefs.ErrConnectionClosed, cause)
	s.err.CompareAndSwap(nil, &err)
	s.cfg.Failed(err)
}

// failure returns the first failure, or nil.
func (s *Inline) failure() error {
	if err := s.err.Load(); err != nil {
		return *err
	}
	return nil
}
