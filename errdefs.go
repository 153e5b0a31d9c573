// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file has the errors that the package returns from every depth: the sentinels, and the operation during which
// an error arose. errors.go publishes them.

import (
	"errors"
	"fmt"
)

// The sentinels. errors.go says when each is returned.
var (
	errBufferFull          = errors.New("udsipc: queue is full")
	errBackpressure        = errors.New("udsipc: peer does not read")
	errNoConsumer          = errors.New("udsipc: nobody listens")
	errNotConnected        = errors.New("udsipc: not connected")
	errStopped             = errors.New("udsipc: stopped")
	errMessageTooLarge     = errors.New("udsipc: message too large")
	errInvalidLengthPrefix = errors.New("udsipc: invalid length prefix")
	errConnectionClosed    = errors.New("udsipc: connection closed")
	errHandlerFailed       = errors.New("udsipc: handler failed")
	errHandlerNil          = errors.New("udsipc: handler is nil")
	errInvalidTimeout      = errors.New("udsipc: invalid timeout")
	errInvalidBufferSize   = errors.New("udsipc: invalid size")
	errInvalidSocketPath   = errors.New("udsipc: invalid socket path")
	errSocketInUse         = errors.New("udsipc: socket is in use")
	errAcksUnsupported     = errors.New("udsipc: reader does not acknowledge")
	errInvalidSession      = errors.New("udsipc: invalid session")
	errHeartbeatTimeout    = errors.New("udsipc: peer is silent")
	errUnauthorized        = errors.New("udsipc: peer is not authorized")
	errHandshake           = errors.New("udsipc: TLS handshake failed")
	errPlaintext           = errors.New("udsipc: plaintext over a network")
	errTooSlow             = errors.New("udsipc: peer is too slow")
	errHung                = errors.New("udsipc: stuck")
	errTooManyConnections  = errors.New("udsipc: too many connections")
)

// The operations of an opError.
const (
	opListen        = "listen"
	opAccept        = "accept"
	opRead          = "read"
	opHandle        = "handle"
	opDial          = "dial"
	opOpenSession   = "open session"
	opAuthorize     = "authorize"
	opHandshake     = "handshake"
	opWrite         = "write"
	opQueue         = "queue"
	opFlush         = "flush"
	opStop          = "stop"
	opActivate      = "activate"
	opWaitConnected = "wait connected"
	opNotify        = "notify systemd"
	opWatchdog      = "watchdog"
	opHandOver      = "hand over"
)

// An opError is an error with the operation during which it arose, and where.
type opError struct {
	Op   string // One of the op constants.
	Addr string // The address as it was given, or the peer; may be empty.
	Err  error
}

func (e *opError) Error() string {
	if e.Addr == "" {
		return e.Op + ": " + e.Err.Error()
	}
	return e.Op + " " + e.Addr + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *opError) Unwrap() error { return e.Err }

// withOp wraps err once; an error that is an opError already, and nil, stay what they are.
func withOp(op, addr string, err error) error {
	if err == nil {
		return nil
	}
	if wrapped := (*opError)(nil); errors.As(err, &wrapped) {
		return err
	}
	return &opError{Op: op, Addr: addr, Err: err}
}

// A possibleLossError says that a connection broke while messages that count as sent may have lain unread.
type possibleLossError struct {
	Messages uint64 // Upper bound.
	Err      error  // Why the connection broke.
}

func (e *possibleLossError) Error() string {
	return fmt.Sprintf("possible loss of up to %d messages that the peer had not read: %v", e.Messages, e.Err)
}

// Unwrap returns errConnectionClosed and the cause.
func (e *possibleLossError) Unwrap() []error { return []error{errConnectionClosed, e.Err} }

// A tooLargeError is why one message of a connection was skipped.
type tooLargeError struct {
	Size, Limit uint64
	Head        []byte // Its first bytes.
}

func (e *tooLargeError) Error() string { return overLimit(e.Size, e.Limit).Error() }

// Unwrap returns errMessageTooLarge.
func (e *tooLargeError) Unwrap() error { return errMessageTooLarge }

// overLimit returns the error for a message of size bytes where WithMaxMessageSize allows limit.
func overLimit(size, limit uint64) error {
	return fmt.Errorf("%w: %d bytes, the limit is %d (WithMaxMessageSize)", errMessageTooLarge, size, limit)
}

// firstError returns the first of two errors; the second is only what came of cleaning up.
func firstError(first, second error) error {
	if first != nil {
		return first
	}
	return second
}
