// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/udsipc/udsipc"
)

// A Code says what kind of error ended a call.
type Code uint32

// The codes. A handler may use those from CodeUnknown to CodeUnauthenticated, and any from CodeFirstUser on.
const (
	CodeUnknown            Code = iota + 1 // The handler's error has no code.
	CodeInvalidArgument                    // The request makes no sense.
	CodeNotFound                           // What was asked for does not exist.
	CodeAlreadyExists                      //
	CodePermissionDenied                   // The caller may not do that.
	CodeFailedPrecondition                 // Not in this state.
	CodeUnavailable                        // Not now; try again.
	CodeUnauthenticated                    // Who calls is not known.
	CodeCanceled                           // The caller's context was cancelled, or the handler's was.
	CodeDeadlineExceeded                   // The same, because of its deadline.
	CodeUnknownMethod                      // No handler has this name.
	CodePanic                              // The handler panicked; the server has reported where.
	CodeTooLarge                           // The request or the response is larger than udsipc.WithMaxMessageSize.
	CodeResourceExhausted                  // SetMaxConcurrentCalls, or the queue of the client is full.
	CodeConnectionLost                     // The connection was lost; the handler may have run, or not.
	CodeStopped                            // The client was stopped.
)

// CodeFirstUser is the first code that means what two programs agree on.
const CodeFirstUser Code = 1000

// maxCode bounds what is believed.
const maxCode = 1<<32 - 1

var codeNames = map[Code]string{
	CodeUnknown: "unknown", CodeInvalidArgument: "invalid argument", CodeNotFound: "not found", CodeAlreadyExists: "already exists",
	CodePermissionDenied: "permission denied", CodeFailedPrecondition: "failed precondition", CodeUnavailable: "unavailable",
	CodeUnauthenticated: "unauthenticated", CodeCanceled: "cancelled", CodeDeadlineExceeded: "deadline exceeded",
	CodeUnknownMethod: "unknown method", CodePanic: "panic", CodeTooLarge: "too large", CodeResourceExhausted: "resource exhausted",
	CodeConnectionLost: "connection lost", CodeStopped: "stopped",
}

// String returns the code in words.
func (c Code) String() string {
	if name := codeNames[c]; name != "" {
		return name
	}
	return fmt.Sprintf("code %d", uint32(c))
}

// An Error is why a call failed: what a handler returns to say it with a code, and what Call returns, always.
type Error struct {
	Code    Code
	Message string
}

// Error returns the code and the message.
func (e *Error) Error() string { return "udsipc/rpc: " + e.Code.String() + ": " + e.Message }

// Is matches an Error of the same code without a message, so that errors.Is(err, &Error{Code: CodeNotFound}) tells.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Code == e.Code && (other.Message == "" || other.Message == e.Message)
}

// Unwrap returns what the code stands for in other packages: context.Canceled, context.DeadlineExceeded,
// os.ErrPermission, os.ErrNotExist, os.ErrExist, udsipc.ErrMessageTooLarge, udsipc.ErrConnectionClosed or udsipc.ErrStopped.
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

// CodeOf returns the code of an error: that of an Error in its chain, those of the context package's errors, CodeUnknown
// for any other, and 0 for nil.
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

// asError is err as an Error.
func asError(err error) *Error {
	if e := (*Error)(nil); errors.As(err, &e) {
		if e == nil {
			return &Error{Code: CodeUnknown, Message: "an *Error that is nil"}
		}
		return e
	}
	return &Error{Code: CodeOf(err), Message: err.Error()}
}
