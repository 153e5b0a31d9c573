// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

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
	CodeResourceExhausted                  // A limit of the server (see Message), or the queue of the client is full.
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
// the code. Only the code and the message reach the other process.
type Error struct {
	Code    Code
	Message string

	cause error // Of Errorf; may be nil.
}

// Errorf returns an *Error with a code and a message that is formatted as by fmt.Errorf. In this
// process the error matches what %w wraps; the peer receives its text alone.
func Errorf(code Code, format string, args ...any) error { return errorf(code, format, args...) }

func errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	e := &Error{Code: code, Message: err.Error()}
	switch err.(type) {
	case interface{ Unwrap() error }, interface{ Unwrap() []error }:
		e.cause = err
	}
	return e
}

// Error returns the code and the message.
func (e *Error) Error() string {
	if e == nil {
		return "udsipc/rpc: " + nilMessage
	}
	return "udsipc/rpc: " + e.Code.String() + ": " + e.Message
}

// nilMessage is the message of an *Error that is nil. A handler returns it by mistake: as an error, it is not nil.
const nilMessage = "an *Error that is nil"

// Is reports whether target is an Error of the same code, with the same message or none.
// errors.Is(err, &Error{Code: CodeNotFound}) tests for a code.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && e != nil && other != nil && other.Code == e.Code &&
		(other.Message == "" || other.Message == e.Message)
}

// Unwrap returns what the error matches besides: the error of another package that stands for its
// code (CodeOf), and what Errorf has wrapped.
func (e *Error) Unwrap() []error {
	if e == nil {
		return nil
	}
	var all []error
	for _, p := range codeErrors {
		if p.code == e.Code && p.both {
			all = append(all, p.err)
			break
		}
	}
	if e.cause != nil {
		all = append(all, e.cause)
	}
	return all
}

// codeErrors are the errors of other packages that stand for a code, in the order of CodeOf. If
// both is set, an Error of the code matches err; of several the first.
var codeErrors = []struct {
	err  error
	code Code
	both bool
}{
	{context.Canceled, CodeCanceled, true},
	{context.DeadlineExceeded, CodeDeadlineExceeded, true},
	{udsipc.ErrMessageTooLarge, CodeTooLarge, true},
	{udsipc.ErrBufferFull, CodeResourceExhausted, false},
	{udsipc.ErrStopped, CodeStopped, true},
	{udsipc.ErrConnectionClosed, CodeConnectionLost, true},
	{udsipc.ErrNotConnected, CodeUnavailable, false},
	{os.ErrNotExist, CodeNotFound, true},
	{os.ErrPermission, CodePermissionDenied, true},
	{os.ErrExist, CodeAlreadyExists, true},
}

// CodeOf returns the code of an error: that of an Error in its chain, else that of the first row that
// it matches (errors.Is), else CodeUnknown; 0 for nil. A handler's error gets its code the same way,
// and the Error that the caller receives matches the error of the row again, but for the rows with *:
//
//	context.Canceled             CodeCanceled
//	context.DeadlineExceeded     CodeDeadlineExceeded
//	udsipc.ErrMessageTooLarge    CodeTooLarge
//	udsipc.ErrBufferFull *       CodeResourceExhausted
//	udsipc.ErrStopped            CodeStopped
//	udsipc.ErrConnectionClosed   CodeConnectionLost
//	udsipc.ErrNotConnected *     CodeUnavailable
//	os.ErrNotExist               CodeNotFound
//	os.ErrPermission             CodePermissionDenied
//	os.ErrExist                  CodeAlreadyExists
//
// So an error that matches context.Canceled may be the handler's: whether the caller has cancelled, tells
// the caller's own context.
//
// The message is the text of the handler's error, whatever the code: a handler whose errors hold
// what callers must not see (paths, addresses) has to return another one, with Errorf.
func CodeOf(err error) Code {
	if err == nil {
		return 0
	}
	if e := (*Error)(nil); errors.As(err, &e) && e != nil {
		return e.Code
	}
	for _, p := range codeErrors {
		if errors.Is(err, p.err) {
			return p.code
		}
	}
	return CodeUnknown
}

// asError returns err as an Error, with the text of err. Of an Error in its chain, that is the message
// alone: the code is not said twice.
func asError(err error) *Error {
	e := (*Error)(nil)
	if !errors.As(err, &e) {
		return &Error{Code: CodeOf(err), Message: err.Error(), cause: err}
	}
	if e == nil {
		return &Error{Code: CodeUnknown, Message: nilMessage}
	}
	if err == error(e) {
		return e
	}
	return &Error{Code: e.Code, Message: strings.Replace(err.Error(), e.Error(), e.Message, 1), cause: err}
}
