// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/udsipc/udsipc"
)

// A Code is the kind of an error that ended a call.
type Code uint32

// The codes. A handler may return those from CodeUnknown to CodeUnauthenticated, and any from
// CodeFirstUser on.
const (
	CodeUnknown            Code = iota + 1 // The handler's error has no code.
	CodeInvalidArgument                    // The request is invalid.
	CodeNotFound                           // The requested item does not exist.
	CodeAlreadyExists                      // The item to create exists already.
	CodePermissionDenied                   // The caller is not permitted to do this.
	CodeFailedPrecondition                 // The server's state does not allow it.
	CodeUnavailable                        // Not possible now: retry later.
	CodeUnauthenticated                    // The identity of the caller is not known.
	CodeCanceled                           // The context of the caller or the handler was cancelled.
	CodeDeadlineExceeded                   // The deadline of the caller has passed.
	CodeUnknownMethod                      // The server has no handler for the method.
	CodePanic                              // The handler panicked; the server reports the stack.
	CodeTooLarge                           // The request or the response is larger than udsipc.WithMaxMessageSize.
	CodeResourceExhausted                  // A limit of the server, or the queue of the client is full.
	CodeConnectionLost                     // The connection was lost; the outcome of the call is unknown.
	CodeStopped                            // The client was stopped.
)

// CodeFirstUser is the first code whose meaning the two programs define.
const CodeFirstUser Code = 1000

// maxCode is the largest code that is accepted.
const maxCode = 1<<32 - 1

var codeNames = map[Code]string{
	CodeUnknown:            "unknown",
	CodeInvalidArgument:    "invalid argument",
	CodeNotFound:           "not found",
	CodeAlreadyExists:      "already exists",
	CodePermissionDenied:   "permission denied",
	CodeFailedPrecondition: "failed precondition",
	CodeUnavailable:        "unavailable",
	CodeUnauthenticated:    "unauthenticated",
	CodeCanceled:           "cancelled",
	CodeDeadlineExceeded:   "deadline exceeded",
	CodeUnknownMethod:      "unknown method",
	CodePanic:              "panic",
	CodeTooLarge:           "too large",
	CodeResourceExhausted:  "resource exhausted",
	CodeConnectionLost:     "connection lost",
	CodeStopped:            "stopped",
}

// String returns the name of the code.
func (c Code) String() string {
	if name := codeNames[c]; name != "" {
		return name
	}
	return fmt.Sprintf("code %d", uint32(c))
}

// An Error is the reason why a call failed. Call always returns one; a handler returns one to set
// the code.
type Error struct {
	Code    Code
	Message string
}

// Error returns the code and the message.
func (e *Error) Error() string { return "udsipc/rpc: " + e.Code.String() + ": " + e.Message }

// Is reports whether target is an Error of the same code, with the same message or none.
// errors.Is(err, &Error{Code: CodeNotFound}) tests for a code.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Code == e.Code && (other.Message == "" || other.Message == e.Message)
}

// Unwrap returns the matching error of another package, or nil: context.Canceled,
// context.DeadlineExceeded, os.ErrPermission, os.ErrNotExist, os.ErrExist,
// udsipc.ErrMessageTooLarge, udsipc.ErrConnectionClosed or udsipc.ErrStopped.
func (e *Error) Unwrap() error {
	switch e.Code {
	case CodeCanceled:
		return context.Canceled
	case CodeDeadlineExceeded:
		return context.DeadlineExceeded
	case CodePermissionDenied:
		return os.ErrPermission
	case CodeNotFound:
		return os.ErrNotExist
	case CodeAlreadyExists:
		return os.ErrExist
	case CodeTooLarge:
		return udsipc.ErrMessageTooLarge
	case CodeConnectionLost:
		return udsipc.ErrConnectionClosed
	case CodeStopped:
		return udsipc.ErrStopped
	}
	return nil
}

// CodeOf returns the code of an error: that of an Error in its chain, or the code that stands for
// an error of packages context and udsipc. It returns CodeUnknown for any other error, and 0 for
// nil.
func CodeOf(err error) Code {
	var e *Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e) && e != nil:
		return e.Code
	case errors.Is(err, context.Canceled):
		return CodeCanceled
	case errors.Is(err, context.DeadlineExceeded):
		return CodeDeadlineExceeded
	case errors.Is(err, udsipc.ErrMessageTooLarge):
		return CodeTooLarge
	case errors.Is(err, udsipc.ErrBufferFull):
		return CodeResourceExhausted
	case errors.Is(err, udsipc.ErrStopped):
		return CodeStopped
	case errors.Is(err, udsipc.ErrConnectionClosed):
		return CodeConnectionLost
	}
	return CodeUnknown
}

// asError returns err as an Error.
func asError(err error) *Error {
	if e := (*Error)(nil); errors.As(err, &e) {
		if e == nil {
			return &Error{Code: CodeUnknown, Message: "an *Error that is nil"}
		}
		return e
	}
	return &Error{Code: CodeOf(err), Message: err.Error()}
}
