// SPDX-License-Identifier: Apache-2.0

// Package errdefs has the errors that several packages return. The root package exports them under
// the same names.
package errdefs

// This file has the sentinels, the names of operations, and the errors with fields.

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// The sentinels. errors.go of the root documents when each is returned.
var (
	ErrBufferFull          = errors.New("udsipc: queue is full")
	ErrBackpressure        = errors.New("udsipc: peer does not read")
	ErrNoConsumer          = errors.New("udsipc: nobody listens")
	ErrNotConnected        = errors.New("udsipc: not connected")
	ErrNotStarted          = errors.New("udsipc: not started: call Start")
	ErrStopped             = errors.New("udsipc: stopped")
	ErrMessageTooLarge     = errors.New("udsipc: message too large")
	ErrInvalidLengthPrefix = errors.New("udsipc: invalid length prefix")
	ErrConnectionClosed    = errors.New("udsipc: connection closed")
	ErrHandlerFailed       = errors.New("udsipc: handler failed")
	ErrHandlerNil          = errors.New("udsipc: handler is nil")
	ErrInvalidTimeout      = errors.New("udsipc: invalid timeout")
	ErrInvalidBufferSize   = errors.New("udsipc: invalid size")
	ErrInvalidSocketPath   = errors.New("udsipc: invalid socket path")
	ErrSocketInUse         = errors.New("udsipc: socket is in use")
	ErrAcksUnsupported     = errors.New("udsipc: reader does not acknowledge")
	ErrInvalidSession      = errors.New("udsipc: invalid session")
	ErrHeartbeatTimeout    = errors.New("udsipc: heartbeat timeout")
	ErrUnauthorized        = errors.New("udsipc: peer is not authorized")
	ErrHandshake           = errors.New("udsipc: TLS handshake failed")
	ErrPlaintext           = errors.New("udsipc: plaintext over a network")
	ErrTooSlow             = errors.New("udsipc: peer is too slow")
	ErrHung                = errors.New("udsipc: hung")
	ErrTooManyConnections  = errors.New("udsipc: too many connections")
)

// The operations of an Error.
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

// An Error is an error with its operation and address.
type Error struct {
	Op   string // One of the Op constants.
	Addr string // The address as configured, or the peer; may be empty.
	Err  error
}

// Error returns the operation, the address and the cause. The name of the package, with which the
// sentinels begin, is left out.
func (e *Error) Error() string { return e.TextWith(e.Err.Error()) }

// TextWith is Error with this text of the cause.
func (e *Error) TextWith(cause string) string {
	cause = WithoutPrefix(cause)
	if e.Addr == "" {
		return e.Op + ": " + cause
	}
	return e.Op + " " + e.Addr + ": " + cause
}

// WithoutPrefix returns the text of an error without the name of the package.
func WithoutPrefix(text string) string { return inner.Replace(strings.TrimPrefix(text, prefix)) }

// prefix begins the text of each sentinel.
const prefix = "udsipc: "

// inner drops prefix within a text, where other text precedes it.
var inner = strings.NewReplacer(": "+prefix, ": ", "; "+prefix, "; ", "("+prefix, "(")

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// WithOp wraps err in an Error. It returns nil for nil, and an *Error unchanged. An Error inside
// another error does not count: a type assertion on the whole would not find it.
func WithOp(op, addr string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := err.(*Error); ok {
		return err
	}
	return &Error{Op: op, Addr: addr, Err: err}
}

// A PossibleLoss reports that a connection failed while messages that count as sent may have been
// unread.
type PossibleLoss struct {
	Messages uint64 // Upper bound.
	Err      error  // Why the connection failed.
}

func (e *PossibleLoss) Error() string {
	return fmt.Sprintf("possible loss of up to %s: %v", Count(e.Messages), e.Err)
}

// Unwrap returns ErrConnectionClosed and the cause.
func (e *PossibleLoss) Unwrap() []error { return []error{ErrConnectionClosed, e.Err} }

// A TooLarge reports a message that was skipped because of its size.
type TooLarge struct {
	Size, Limit uint64
	Head        []byte // Its first bytes.
}

func (e *TooLarge) Error() string { return OverLimit(e.Size, e.Limit).Error() }

// Unwrap returns ErrMessageTooLarge.
func (e *TooLarge) Unwrap() error { return ErrMessageTooLarge }

// An Unread is what Stop returns when its context ended while the kernel had messages that the peer had not read.
type Unread struct {
	Messages uint64 // An upper bound.
	Err      error  // Why Stop did not wait.
}

func (e *Unread) Error() string {
	return fmt.Sprintf("up to %s with the kernel, but not read by the peer yet: %v",
		CountIs(e.Messages, "is", "are"), e.Err)
}

// UnreadMessages returns Messages, for who does not know the type.
func (e *Unread) UnreadMessages() uint64 { return e.Messages }

// Unwrap returns the reason.
func (e *Unread) Unwrap() error { return e.Err }

// A NotPermitted reports that this process may not connect.
type NotPermitted struct {
	Err error
}

func (e *NotPermitted) Error() string { return prefix + "no permission to connect: " + e.Err.Error() }

// Unwrap returns ErrNoConsumer and the cause.
func (e *NotPermitted) Unwrap() []error { return []error{ErrNoConsumer, e.Err} }

// A BufferFull reports a full queue, with the limit that was met.
type BufferFull struct {
	Limit uint64
	Unit  string // Of the limit, and the option that sets it.
}

func (e *BufferFull) Error() string { return fmt.Sprintf("%v: %d %s", ErrBufferFull, e.Limit, e.Unit) }

// Unwrap returns ErrBufferFull.
func (e *BufferFull) Unwrap() error { return ErrBufferFull }

// IsBufferFull reports whether err is ErrBufferFull or a BufferFull, and no error that wraps one.
func IsBufferFull(err error) bool {
	_, ok := err.(*BufferFull)
	return ok || err == ErrBufferFull
}

// OverLimit returns the error for a message of size bytes over a WithMaxMessageSize of limit.
func OverLimit(size, limit uint64) error {
	return fmt.Errorf("%w: %d bytes, the limit is %d (WithMaxMessageSize)", ErrMessageTooLarge, size, limit)
}

// EndOf returns why ctx has ended, or nil: its cause, which matches the error of ctx as well.
func EndOf(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		return nil
	}
	cause := context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return &endOf{cause, err}
}

// An endOf is the cause of a context, and its error.
type endOf struct{ cause, err error }

func (e *endOf) Error() string { return e.cause.Error() }

func (e *endOf) Unwrap() []error { return []error{e.cause, e.err} }

// First returns the first error that is not nil. The second one is an error of cleaning up.
func First(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// Count returns a number of messages in words.
func Count(n uint64) string {
	if n == 1 {
		return "1 message"
	}
	return fmt.Sprintf("%d messages", n)
}

// CountIs returns a number of messages and the verb for one or for several.
func CountIs(n uint64, one, several string) string {
	if n == 1 {
		return Count(n) + " " + one
	}
	return Count(n) + " " + several
}
