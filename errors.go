// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file holds what goes wrong: the sentinels that errors.Is matches, and the one type in which
// every error reaches a callback.

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

var (
	// ErrBufferFull is returned by WriteMessage when the queue is at one of its bounds, and reported
	// when OverflowDropOldest dropped messages to make room.
	ErrBufferFull = errors.New("udsipc: queue is full")

	// ErrBackpressure is reported when a write has waited for WithWriteTimeout because the peer does
	// not read. Nothing is lost by it: on a socket the Writer goes on waiting.
	ErrBackpressure = errors.New("udsipc: peer does not read")

	// ErrNoConsumer is reported when nobody accepts connections at the address.
	ErrNoConsumer = errors.New("udsipc: nobody listens")

	// ErrNotConnected is returned when a context ended before there was a connection.
	ErrNotConnected = errors.New("udsipc: not connected")

	// ErrStopped is returned by what was called after Stop.
	ErrStopped = errors.New("udsipc: stopped")

	// ErrMessageTooLarge is returned by WriteMessage for a message over WithMaxMessageSize, and
	// reported by a Reader that refuses one, and by a Writer that sets one aside because its reader
	// refuses it again and again.
	ErrMessageTooLarge = errors.New("udsipc: message too large")

	// ErrInvalidLengthPrefix is reported when a peer sends a length prefix over 64 bits: what it
	// writes is not this protocol.
	ErrInvalidLengthPrefix = errors.New("udsipc: invalid length prefix")

	// ErrConnectionClosed is reported when a connection ended in the middle of a message, and is the
	// cause of a PossibleLossError.
	ErrConnectionClosed = errors.New("udsipc: connection closed")

	// ErrHandlerFailed is reported when a handler returned an error or panicked.
	ErrHandlerFailed = errors.New("udsipc: handler failed")

	// ErrHandlerNil is returned by NewReader and NewDeliveryReader without a handler.
	ErrHandlerNil = errors.New("udsipc: handler is nil")

	// ErrInvalidTimeout is returned by the constructors for a duration that makes no sense.
	ErrInvalidTimeout = errors.New("udsipc: invalid timeout")

	// ErrInvalidBufferSize is returned by the constructors for a size or a bound that makes no sense.
	ErrInvalidBufferSize = errors.New("udsipc: invalid size")

	// ErrInvalidSocketPath is returned by the constructors for an address that cannot be one, and by
	// Reader.Start when something other than a socket lies at the path.
	ErrInvalidSocketPath = errors.New("udsipc: invalid socket path")

	// ErrSocketInUse is returned by Reader.Start when someone listens at the address already.
	ErrSocketInUse = errors.New("udsipc: socket is in use")

	// ErrAcksUnsupported is reported by a Writer with WithAcknowledgements whose reader ended the
	// connection without an answer, as one does that knows only plain frames, or speaks another
	// version. The Writer keeps its messages and goes on trying.
	ErrAcksUnsupported = errors.New("udsipc: reader does not acknowledge")

	// ErrInvalidSession is reported when a peer of an acknowledged connection sends what cannot be: a
	// malformed hello, welcome or acknowledgement, or the number of a message that was never sent.
	ErrInvalidSession = errors.New("udsipc: invalid session")

	// ErrPeerSilent is reported when nothing came from a peer for longer than WithPeerTimeout.
	ErrPeerSilent = errors.New("udsipc: peer is silent")

	// ErrUnauthorized is reported when the authorizer refuses a peer.
	ErrUnauthorized = errors.New("udsipc: peer is not authorized")

	// ErrHandshake is reported when a TLS handshake failed or took too long.
	ErrHandshake = errors.New("udsipc: TLS handshake failed")

	// ErrPlaintext is returned by the constructors for a TCP address that is not loopback, without
	// WithTLS and without WithPlaintext.
	ErrPlaintext = errors.New("udsipc: plaintext over a network")

	// ErrTooSlow is reported when a peer takes longer for a message than a Reader allows.
	ErrTooSlow = errors.New("udsipc: peer is too slow")

	// ErrStuck is reported when a handler has not returned for longer than WithStuckAfter, or the
	// goroutine that accepts connections does not answer, so that systemd's watchdog is not told that the
	// process lives.
	ErrStuck = errors.New("udsipc: stuck")

	// ErrTooManyConnections is reported when a Reader refuses a connection over WithMaxConnections
	// or WithMaxConnectionsPerUser.
	ErrTooManyConnections = errors.New("udsipc: too many connections")
)

// What ErrInvalidSession is about.
var (
	errGreeting        = fmt.Errorf("%w: malformed greeting", ErrInvalidSession)
	errAcknowledgement = fmt.Errorf("%w: malformed acknowledgement", ErrInvalidSession)
	errStale           = fmt.Errorf("%w: late connection", ErrInvalidSession)
	errVersion         = fmt.Errorf("%w: unknown version", ErrInvalidSession)
)

// errNoSpace is why nothing is read: the memory of the Reader is used up.
var errNoSpace = errors.New("udsipc: no memory left")

// errOpening is no error: a session begins.
var errOpening = errors.New("udsipc: opening of a session")

// errRenumber is why a Writer ends a session: the next message has not the next number.
var errRenumber = errors.New("udsipc: a message was set aside")

// errLegacy is why the memory of an earlier process is of no use.
var errLegacy = errors.New("udsipc: malformed memory of an earlier process")

// errNotPlain is why a connection cannot be handed over.
var errNotPlain = errors.New("only a connection over a bare socket can be handed over: not one with TLS, and none in memory")

// errHandOver is why a connection is at rest: the next process is to have it.
var errHandOver = errors.New("udsipc: connection can be handed over")

// errWriteDeadline is why a wait for room ended: SetWriteDeadline.
var errWriteDeadline = fmt.Errorf("%w: the write deadline has passed", os.ErrDeadlineExceeded)

// errEnded is why a connection ended that nothing went wrong with: told to, by this side or the other.
var errEnded = errors.New("udsipc: connection ended")

// An OpError is an error with what was being done and where. Every error that reaches an
// ErrorCallback is one.
type OpError struct {
	Op   string // One of the Op constants.
	Addr string // The address as it was given, or the peer; may be empty.
	Err  error
}

// The operations of an OpError.
const (
	OpListen    = "listen"
	OpAccept    = "accept"
	OpRead      = "read"
	OpHandle    = "handle"
	OpDial      = "dial"
	OpSession   = "open session"
	OpAuthorize = "authorize"
	OpHandshake = "handshake"
	OpWrite     = "write"
	OpQueue     = "queue"
	OpFlush     = "flush"
	OpStop      = "stop"
	OpActivate  = "activate"
	OpConnect   = "wait connected"
	OpNotify    = "notify systemd"
	OpWatchdog  = "watchdog"
	OpHandOver  = "hand over"
)

// opWords are the second argument of an ErrorCallback.
var opWords = map[string]string{
	OpListen:    "failed to listen",
	OpAccept:    "failed to accept a connection",
	OpRead:      "failed to read a message",
	OpHandle:    "handler failed to process a message",
	OpDial:      "failed to connect",
	OpAuthorize: "peer refused",
	OpHandshake: "failed to agree on TLS",
	OpSession:   "failed to open an acknowledged session",
	OpWrite:     "write failure",
	OpQueue:     "queue could not keep a message",
	OpFlush:     "failed to flush",
	OpStop:      "failed to stop cleanly",
	OpActivate:  "failed to take a socket from systemd",
	OpConnect:   "no connection",
	OpNotify:    "failed to tell systemd",
	OpWatchdog:  "the watchdog is not told that the Reader lives",
	OpHandOver:  "failed to hand over to the next process",
}

func (e *OpError) Error() string {
	if e.Addr == "" {
		return e.Op + ": " + e.Err.Error()
	}
	return e.Op + " " + e.Addr + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// opError wraps err once; an error that is an OpError already, and nil, stay what they are.
func opError(op, addr string, err error) error {
	if err == nil {
		return nil
	}
	if wrapped := (*OpError)(nil); errors.As(err, &wrapped) {
		return err
	}
	return &OpError{Op: op, Addr: addr, Err: err}
}

// A PossibleLossError says that a connection broke while bytes that the kernel had taken may have
// lain unread, so that messages that count as sent may not have been handled.
type PossibleLossError struct {
	Messages uint64 // Upper bound: no more than so many are lost.
	Err      error  // Why the connection broke. ErrConnectionClosed is matched as well.
}

func (e *PossibleLossError) Error() string {
	return fmt.Sprintf("possible loss of up to %d messages that the peer had not read: %v", e.Messages, e.Err)
}

// Unwrap returns ErrConnectionClosed and the cause.
func (e *PossibleLossError) Unwrap() []error { return []error{ErrConnectionClosed, e.Err} }

// A TooLargeError is what a Conn and a Link say of a message over their limit. Reading goes on behind it.
type TooLargeError struct {
	Size, Limit uint64
	Head        []byte // Its first bytes, up to 32.
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("%v: %d bytes, the limit is %d (WithMaxMessageSize)", ErrMessageTooLarge, e.Size, e.Limit)
}

// Unwrap returns ErrMessageTooLarge.
func (e *TooLargeError) Unwrap() error { return ErrMessageTooLarge }

// An ErrorCallback is told of everything that went wrong and was not returned to a caller. err is an
// *OpError; context is its Op in words. It is called from the goroutine in which the error arose, so
// it should return soon; it may call Stop with a context that ends.
type ErrorCallback func(err error, context string)

// report calls the callback, if there is one, with an OpError.
func (report ErrorCallback) report(op, addr string, err error) {
	if report == nil || err == nil {
		return
	}
	err = opError(op, addr, err)
	if wrapped := (*OpError)(nil); errors.As(err, &wrapped) {
		report(err, opWords[wrapped.Op])
	}
}

// outOfResources reports whether what failed with err will work again once others have given something back.
func outOfResources(err error) bool {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
