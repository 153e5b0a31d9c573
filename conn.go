// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is a full-duplex connection. It receives like a Reader (transport.In). It sends from a queue like a
// Writer's, without a goroutine that waits (sender.Inline, conn_send.go).

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/sender"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// A Conn is a full-duplex connection: what Dial and Listener.Accept return. Each direction is a
// stream of frames, as from a Writer to a Reader. One goroutine may read at a time; all other
// methods are safe for concurrent use.
//
// A Conn ends with its connection, and returns that as an error: it does not reconnect, and sends
// no message twice.
type Conn struct {
	conn  net.Conn
	in    *transport.In
	peer  Peer
	where string
	limit uint64

	reading   sync.Mutex // Held while a message is read; guards in and sinceFill.
	sinceFill int        // Messages that were returned since bytes were last read.

	// What is sent.
	queue         *queue.Queue
	out           *sender.Inline
	blockWhenFull bool          // A message waits for room.
	closeTimeout  time.Duration // Of Close.
	stalledCount  *atomic.Uint64
	writeDeadline sender.Deadline
	sendErr       atomic.Pointer[OpError] // Why nothing can be sent any more.

	// Of a Link, which owns the queue: closed when writing has failed, and the writer has left it
	// idle no more.
	sendFailed chan struct{}

	refused      atomic.Bool // refuse was called.
	keepOpenFunc func() bool // Set by a connSeam; nil for nobody.
	lastAccepted uint64      // Messages that were accepted when inUse last looked.

	closing   sync.Once
	closeErr  error         // What Close returns.
	isClosing atomic.Bool   // It is being closed.
	closed    chan struct{} // It is.
	ended     func()        // Called by Close in the end; may be nil.
}

// newConn returns a Conn with a queue of its own over what in reads from. shared may be nil.
func newConn(in *transport.In, peer Peer, cfg *sharedConfig, shared *queue.SharedLimit) *Conn {
	limits := cfg.queueLimits()
	limits.Undrained, limits.Shared = true, shared
	return newQueueConn(in, peer, cfg, queue.New(limits))
}

// newQueueConn returns a Conn that sends the messages of q.
func newQueueConn(in *transport.In, peer Peer, cfg *sharedConfig, q *queue.Queue) *Conn {
	c := &Conn{
		conn: in.Connection(), in: in, peer: peer, where: cfg.addrText, limit: cfg.maxMessageSize,
		queue:         q,
		blockWhenFull: cfg.overflow == OverflowBlock || !cfg.overflowSet,
		closeTimeout:  cfg.writeTimeout,
		closed:        make(chan struct{}),
	}
	c.out = sender.NewInline(sender.InlineConfig{
		Conn: c.conn, Queue: q, StallTimeout: cfg.stallTimeout, CloseTimeout: cfg.writeTimeout,
		Closing: c.isClosing.Load, Failed: c.failSending,
	})
	in.KeepOpenIf(c.inUse)
	return c
}

// Dial connects to a Listener at a path, unix:PATH, @name (Linux) or tcp://HOST:PORT. ctx limits
// the whole call, WithDialTimeout and WithHandshakeTimeout a part each. The error matches
// ErrNoConsumer, ErrHandshake or ErrUnauthorized, and its cause. Dial accepts the options for
// connecting and for the send queue, and WithMaxMessageSize. WithAcknowledgements, WithUndelivered,
// WithMaxAge, WithStateCallback and WithPublishedMetrics are errors.
func Dial(ctx context.Context, address string, opts ...WriterOption) (*Conn, error) {
	cfg, err := newWriterConfig(address, opts)
	if err != nil {
		return nil, err
	}
	if cfg.acknowledgements || cfg.undelivered != nil || cfg.maxAge != 0 || cfg.onState != nil || cfg.publishSet {
		return nil, errors.New("udsipc: Dial: WithAcknowledgements, WithUndelivered, WithMaxAge, WithStateCallback " +
			"and WithPublishedMetrics are for a Writer")
	}
	in, peer, err := dialIn(ctx, &cfg)
	if err != nil {
		return nil, publicError(err)
	}
	return newConn(in, peer, &cfg.sharedConfig, nil), nil
}

// dialIn connects to a Listener, and returns what reads from the connection. An error is an errdefs.Error.
func dialIn(ctx context.Context, cfg *writerConfig) (*transport.In, Peer, error) {
	conn, peer, err := cfg.connect(ctx, &lastDialID)
	if err != nil {
		return nil, Peer{}, errdefs.WithOp(OpDial, cfg.addrText, err)
	}
	limits := transport.Limits{
		MaxMessageSize: cfg.maxMessageSize, ReadSize: defaultReadBuffer,
		MessageTimeout: defaultMessageTimeout,
	}
	return transport.NewIn(conn, limits, &readMemory{limit: defaultReadMemory}), peer, nil
}

// lastDialID counts the connections of this process that Dial has made.
var lastDialID atomic.Uint64

// ReadMessage returns the next message; data is valid until the next call, and the caller may
// change it. It returns io.EOF when the peer closed the connection between messages; with TLS, only
// if the peer has announced it (close_notify), so an attacker cannot forge it. Reading may continue
// after os.ErrDeadlineExceeded (a read deadline, or WithInactivityTimeout) and after *TooLargeError
// (that message is skipped).
//
// Other errors are final; each is an *OpError. ErrConnectionClosed means an end by this side,
// within a message, or, with TLS, without notice (then io.ErrUnexpectedEOF matches as well). The
// others are ErrInvalidLengthPrefix, ErrTooSlow, and errors of the system.
//
// For a *tls.Conn of WithDialer or WithListener, crypto/tls does not report how it ended: io.EOF
// may come from an attacker. Use WithTLS.
func (c *Conn) ReadMessage() (data []byte, err error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.isClosing.Load() {
		return nil, c.readError(net.ErrClosed)
	}
	for {
		data, ok, err := c.in.Next()
		switch {
		case ok:
			c.sinceFill++
			return data, nil
		case err == transport.ErrSessionPreface:
			c.refuse()
			if _, _, err := c.in.Hello(); errors.Is(err, wire.ErrVersionQuery) {
				return nil, io.EOF // A question is no error.
			}
			err = fmt.Errorf("%w: the peer asks for acknowledgements, which only a Reader gives", ErrInvalidLengthPrefix)
		}
		if err != nil {
			return nil, asOpError(OpRead, c.where, err)
		}
		if c.sinceFill > 1 {
			runtime.Gosched() // Those who got the last messages may go first.
		}
		c.sinceFill = 0
		if err := c.in.Fill(); err != nil {
			return nil, c.readError(err)
		}
	}
}

// readError says what the end of reading means.
func (c *Conn) readError(err error) error {
	why := c.sendErr.Load()
	switch n := c.in.PartialBytes(); {
	case c.isClosing.Load() && why != nil:
		err = why.Err // Why this side ended it.
	case c.isClosing.Load(), errors.Is(err, transport.ErrGracefulEnd):
		err = fmt.Errorf("%w: by this side: %w", ErrConnectionClosed, net.ErrClosed)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, ErrTooSlow):
	case n > 0:
		err = fmt.Errorf("%w in the middle of a message, after %d bytes of it: %w", ErrConnectionClosed, n, unexpected(err))
	case c.in.Skipping() > 0:
		err = fmt.Errorf(
			"%w in the middle of a message over the limit, %d bytes before its end: %w",
			ErrConnectionClosed, c.in.Skipping(), unexpected(err))
	case err == io.EOF && transport.EndedByNotify(c.conn):
		return io.EOF
	case err == io.EOF:
		err = fmt.Errorf("%w without the notice that TLS asks for: %w", ErrConnectionClosed, io.ErrUnexpectedEOF)
	default:
		err = fmt.Errorf("%w: %w", ErrConnectionClosed, err)
	}
	return opError(OpRead, c.where, err)
}

// unexpected is err, or io.ErrUnexpectedEOF for io.EOF.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// CloseRead closes the receiving side: further writes of the peer fail. ReadMessage returns the
// messages that the kernel has already accepted, then io.EOF. Only a Unix socket on Linux supports
// this; otherwise the error is errors.ErrUnsupported, and nothing happens.
func (c *Conn) CloseRead() error {
	if !transport.CloseRead(c.conn) {
		return asOpError(OpRead, c.where, errors.ErrUnsupported)
	}
	return nil
}

// inUse says whether the connection is used although nothing comes.
func (c *Conn) inUse() bool {
	counts, _ := c.queue.Snapshot()
	sent := counts.Accepted != c.lastAccepted
	c.lastAccepted = counts.Accepted
	return sent || counts.Queued > 0 || c.keepOpenFunc != nil && c.keepOpenFunc()
}

// Peer returns the other end of the connection.
func (c *Conn) Peer() Peer { return c.peer }

// LocalAddr returns the address of this end.
func (c *Conn) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// SetReadDeadline sets the time after which ReadMessage fails, also in a running call. A zero time,
// the default, is no deadline.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.in.SetUserDeadline(t) }

// SetWriteDeadline sets the time after which WriteMessage stops waiting for space in the queue,
// also in a running call. A zero time, the default, is no deadline. Queued messages are still
// written.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.writeDeadline.Set(t)
	return nil
}

// SetDeadline sets the read and the write deadline.
func (c *Conn) SetDeadline(t time.Time) error {
	return errdefs.First(c.SetWriteDeadline(t), c.SetReadDeadline(t))
}

// releaseRead gives back what reading holds, once nobody reads.
func (c *Conn) releaseRead() {
	c.reading.Lock()
	defer c.reading.Unlock()
	c.in.ReleaseBuffer()
}
