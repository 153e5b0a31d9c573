// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file holds what goes wrong: the sentinels that errors.Is matches, and the one type in which
// every error reaches a callback. Package errdefs has the errors themselves.

import (
	"errors"
	"net"
	"os"
	"strings"

	"github.com/udsipc/udsipc/internal/errdefs"
)

var (
	// ErrBufferFull is matched by the error of WriteMessage when the queue is at one of its bounds, and
	// reported when OverflowDropOldest dropped messages to make room. The text has the bound that was
	// met: WithMaxBufferedWrites, WithMaxBufferedBytes or, for all connections of a Listener,
	// WithMaxSendMemory.
	ErrBufferFull = errdefs.ErrBufferFull

	// ErrBackpressure is reported when a write has waited for WithWriteTimeout because the peer does
	// not read, or when a reader that ends the connection has not closed it for as long (1 s at least).
	// Nothing is lost by it: on a socket the Writer goes on waiting.
	ErrBackpressure = errdefs.ErrBackpressure

	// ErrNoConsumer is reported when nobody accepts connections at the address, or when this process may
	// not connect; then fs.ErrPermission is matched as well.
	ErrNoConsumer = errdefs.ErrNoConsumer

	// ErrNotConnected is returned when a context ended before there was a connection.
	ErrNotConnected = errdefs.ErrNotConnected

	// ErrNotStarted is matched by errors of what was never started. WaitConnected, Flush and a call of
	// package rpc wait for a Start until their context ends: the error of the context is matched as well.
	// Stop returns it at once if messages are left.
	ErrNotStarted = errdefs.ErrNotStarted

	// ErrStopped is returned by what was called after Stop.
	ErrStopped = errdefs.ErrStopped

	// ErrMessageTooLarge is returned by WriteMessage for a message over WithMaxMessageSize, and
	// reported by a Reader that refuses one, and by a Writer that sets one aside because its reader
	// refuses it again and again.
	ErrMessageTooLarge = errdefs.ErrMessageTooLarge

	// ErrInvalidLengthPrefix is reported when a peer sends a length prefix over 64 bits: what it
	// writes is not this protocol. WriteFrames returns it for what is not whole frames.
	ErrInvalidLengthPrefix = errdefs.ErrInvalidLengthPrefix

	// ErrConnectionClosed is reported when a connection ended in the middle of a message, and is the
	// cause of a PossibleLossError.
	ErrConnectionClosed = errdefs.ErrConnectionClosed

	// ErrHandlerFailed is reported when a handler returned an error or panicked.
	ErrHandlerFailed = errdefs.ErrHandlerFailed

	// ErrHandlerNil is returned by the constructors of a Reader and by NewLink without a handler.
	ErrHandlerNil = errdefs.ErrHandlerNil

	// ErrInvalidTimeout is returned by the constructors for a duration that makes no sense.
	ErrInvalidTimeout = errdefs.ErrInvalidTimeout

	// ErrInvalidBufferSize is returned by the constructors for a size or a bound that makes no sense.
	ErrInvalidBufferSize = errdefs.ErrInvalidBufferSize

	// ErrInvalidSocketPath is returned by the constructors for an address that cannot be one, and by
	// Reader.Start when something other than a socket lies at the path.
	ErrInvalidSocketPath = errdefs.ErrInvalidSocketPath

	// ErrSocketInUse is returned by Reader.Start when someone listens at the address already.
	ErrSocketInUse = errdefs.ErrSocketInUse

	// ErrAcksUnsupported is reported by a Writer with WithAcknowledgements whose reader speaks another
	// version, takes the session preface for a malformed length, or has ended two or more connections in a
	// row, each at its end and without an answer, as one does that knows only plain frames. A connection
	// that ends otherwise before the session begins is ErrConnectionClosed: a reader that is killed resets
	// the connections that it has not accepted. The Writer keeps its messages and goes on trying.
	ErrAcksUnsupported = errdefs.ErrAcksUnsupported

	// ErrInvalidSession is reported when a peer of an acknowledged connection sends what cannot be: a
	// malformed hello, welcome or acknowledgement, or the number of a message that was never sent.
	ErrInvalidSession = errdefs.ErrInvalidSession

	// ErrHeartbeatTimeout is reported when nothing came from a peer for longer than WithHeartbeatTimeout.
	ErrHeartbeatTimeout = errdefs.ErrHeartbeatTimeout

	// ErrUnauthorized is reported when the authorizer refuses a peer.
	ErrUnauthorized = errdefs.ErrUnauthorized

	// ErrHandshake is reported when a TLS handshake failed or took too long. WaitConnected, Flush and Stop
	// return it also while the peer has not answered yet.
	ErrHandshake = errdefs.ErrHandshake

	// ErrPlaintext is returned by the constructors for a TCP address that is not loopback, without
	// WithTLS and without WithPlaintext.
	ErrPlaintext = errdefs.ErrPlaintext

	// ErrTooSlow is reported when a peer takes longer for a message than a Reader allows.
	ErrTooSlow = errdefs.ErrTooSlow

	// ErrHung is reported when a handler has not returned for longer than WithHungTimeout, or the
	// goroutine that accepts connections does not answer, so that systemd's watchdog is not told that the
	// process lives.
	ErrHung = errdefs.ErrHung

	// ErrTooManyConnections is reported when a Reader refuses a connection over WithMaxConnections
	// or WithMaxConnectionsPerUser.
	ErrTooManyConnections = errdefs.ErrTooManyConnections
)

// An OpError is an error with its operation and address. Every error that reaches an ErrorCallback
// is one.
type OpError struct {
	Op   string // One of the Op constants.
	Addr string // The address as it was given, or the peer; may be empty.
	Err  error
}

// The operations of an OpError.
const (
	OpListen        = "listen"
	OpAccept        = "accept"
	OpRead          = "read"
	OpHandle        = "handle"
	OpDial          = "dial"
	OpOpenSession   = "open session"
	OpAuthorize     = "authorize"
	OpHandshake     = "handshake"
	OpWrite         = "write"
	OpQueue         = "queue"
	OpFlush         = "flush"
	OpStop          = "stop"
	OpActivate      = "activate"
	OpWaitConnected = "wait connected"
	OpNotify        = "notify systemd"
	OpWatchdog      = "watchdog"
	OpHandOver      = "hand over"
	OpSpool         = "spool"
	OpPublish       = "publish metrics"
)

// The names are the same in errdefs: if one differs, the key false is there twice and nothing compiles.
var _ = map[bool]struct{}{
	false: {},
	OpListen == errdefs.OpListen && OpAccept == errdefs.OpAccept && OpRead == errdefs.OpRead &&
		OpHandle == errdefs.OpHandle && OpDial == errdefs.OpDial && OpOpenSession == errdefs.OpOpenSession &&
		OpAuthorize == errdefs.OpAuthorize && OpHandshake == errdefs.OpHandshake &&
		OpWrite == errdefs.OpWrite && OpQueue == errdefs.OpQueue &&
		OpFlush == errdefs.OpFlush && OpStop == errdefs.OpStop &&
		OpActivate == errdefs.OpActivate && OpWaitConnected == errdefs.OpWaitConnected &&
		OpNotify == errdefs.OpNotify && OpWatchdog == errdefs.OpWatchdog &&
		OpHandOver == errdefs.OpHandOver && OpSpool == errdefs.OpSpool &&
		OpPublish == errdefs.OpPublish: {},
}

// opWords has the second argument of an ErrorCallback.
var opWords = map[string]string{
	OpListen:        "failed to listen",
	OpAccept:        "failed to accept a connection",
	OpRead:          "failed to read a message",
	OpHandle:        "failed to handle a message",
	OpDial:          "failed to connect",
	OpAuthorize:     "failed to authorize the peer",
	OpHandshake:     "TLS handshake failed",
	OpOpenSession:   "failed to open an acknowledged session",
	OpWrite:         "failed to write",
	OpQueue:         "failed to queue a message",
	OpFlush:         "failed to flush",
	OpStop:          "failed to stop cleanly",
	OpActivate:      "failed to use a socket from systemd",
	OpWaitConnected: "failed to wait for a connection",
	OpNotify:        "failed to notify systemd",
	OpWatchdog:      "keep-alive pings are stopped",
	OpHandOver:      "failed to hand over to the next process",
	OpSpool:         "trouble with the queue on disk",
	OpPublish:       "failed to publish the metrics",
}

// Error returns the operation, the address and the cause; each is said once.
func (e *OpError) Error() string { return (*errdefs.Error)(e).TextWith(e.causeText()) }

// causeText returns the text of the cause, without what the operation and the address say already.
func (e *OpError) causeText() string {
	text := e.Err.Error()
	var failed *net.OpError
	if errors.As(e.Err, &failed) && failed.Err != nil &&
		(failed.Addr == nil || strings.Contains(e.Addr, failed.Addr.String())) {
		text = strings.Replace(text, failed.Error(), withoutCall(e.Op, failed.Err), 1)
	}
	return errdefs.WithoutPrefix(text)
}

// withoutCall returns the text of an error of the system, without the name of a call that is op.
func withoutCall(op string, err error) string {
	if call, ok := err.(*os.SyscallError); ok && strings.HasPrefix(call.Syscall, op) {
		err = call.Err
	}
	return err.Error()
}

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// asOpError wraps err once; an error that is an OpError already, and nil, stay what they are. One that has an OpError
// within is wrapped: that is of something else, such as a Writer whose error a handler has returned.
func asOpError(op, addr string, err error) error {
	if err == nil {
		return nil // Before anything is allocated.
	}
	err = publicError(err)
	if _, ok := err.(*OpError); ok {
		return err
	}
	return opError(op, addr, err)
}

// opError is asOpError for an error that no operation of this package has returned: an OpError is one
// of the program's own, such as the cause of a context, and is wrapped as well.
func opError(op, addr string, err error) error {
	if err == nil {
		return nil
	}
	return &OpError{Op: op, Addr: addr, Err: publicError(err)}
}

// publicError returns err with the types of this package in place of those that the mechanism has of its own. It
// returns the same value each time, as far as it can.
func publicError(err error) error {
	switch e := err.(type) {
	case *errdefs.Error:
		switch e.Err.(type) {
		case *errdefs.PossibleLoss, *errdefs.TooLarge:
			return &OpError{Op: e.Op, Addr: e.Addr, Err: publicError(e.Err)}
		}
		return (*OpError)(e)
	case *errdefs.PossibleLoss:
		return (*PossibleLossError)(e)
	case *errdefs.TooLarge:
		return (*TooLargeError)(e)
	}
	return err
}

// internalError returns err with the type that the mechanism has for an OpError.
func internalError(err error) error {
	if e, ok := err.(*OpError); ok {
		return (*errdefs.Error)(e)
	}
	return err
}

// A PossibleLossError reports that messages that count as sent may not have been handled: the
// connection ended while bytes in the kernel may have been unread, the reader said so, or the peer
// has ended several connections in a row, right after they began, without the goodbye of a Reader.
// One error sums up such connections: the first is reported at once, the others after one second,
// and then in growing intervals.
type PossibleLossError struct {
	Messages uint64 // Upper bound: no more than so many are lost, and not in an earlier report.
	Err      error  // Why the connection ended, and what to do about it. ErrConnectionClosed is matched as well.
}

func (e *PossibleLossError) Error() string { return (*errdefs.PossibleLoss)(e).Error() }

// Unwrap returns ErrConnectionClosed and the cause.
func (e *PossibleLossError) Unwrap() []error { return (*errdefs.PossibleLoss)(e).Unwrap() }

// An ErrorCallback is called for each error that no caller receives. err is an *OpError; op
// describes its Op. It runs on the goroutine that met the error, which sends nothing meanwhile: return
// quickly, and with OverflowBlock neither write nor log to the same Writer, which would wait for itself
// (what WithLogger logs may go there). It may call Stop with a deadline.
type ErrorCallback func(err error, op string)
