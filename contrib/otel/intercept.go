// SPDX-License-Identifier: Apache-2.0

package udsipcotel

// This file has the four kinds of interceptors. What they do at the beginning and the end of a call is a parameter.

import (
	"context"

	"github.com/udsipc/udsipc/rpc"
)

// Values of the attribute type.
const (
	typeCall         = "call"
	typeNotification = "notification"
	typeStream       = "stream"
)

// codeText returns the attribute of the end of a call.
func codeText(err error) string {
	if err == nil {
		return "ok"
	}
	code := rpc.CodeOf(err)
	if code > rpc.CodeStopped {
		return "application" // The programs define these codes: there may be any number of them.
	}
	return code.String()
}

// errPanic is the error of a handler, or of an interceptor, that has not returned.
var errPanic = &rpc.Error{Code: rpc.CodePanic, Message: "the handler panicked, or called runtime.Goexit"}

// A serverBegin is called before a handler. It returns the context of the handler, nil for the same, and what to call
// at the end.
type serverBegin func(ctx context.Context, info rpc.CallInfo, kind string) (own context.Context, end func(error))

func serverCalls(begin serverBegin) rpc.Interceptor {
	return func(next rpc.Handler) rpc.Handler {
		return func(ctx context.Context, request []byte) (response []byte, err error) {
			info, _ := rpc.CallFromContext(ctx)
			kind := typeCall
			if info.ID == 0 {
				kind = typeNotification
			}
			own, end := begin(ctx, info, kind)
			err = errPanic
			defer func() { end(err) }()
			return next(either(own, ctx), request)
		}
	}
}

func serverStreams(begin serverBegin) rpc.StreamInterceptor {
	return func(next rpc.StreamHandler) rpc.StreamHandler {
		return func(ctx context.Context, s *rpc.Stream) (err error) {
			info, _ := rpc.CallFromContext(ctx)
			own, end := begin(ctx, info, typeStream)
			err = errPanic
			defer func() { end(err) }()
			return next(either(own, ctx), s)
		}
	}
}

// A clientBegin is called before a call, as a serverBegin is before a handler.
type clientBegin func(ctx context.Context, method, kind string) (own context.Context, end func(error))

func clientCalls(begin clientBegin) rpc.ClientInterceptor {
	return func(next rpc.CallFunc) rpc.CallFunc {
		return func(ctx context.Context, method string, request []byte) (response []byte, err error) {
			own, end := begin(ctx, method, typeCall)
			err = errPanic
			defer func() { end(err) }()
			return next(either(own, ctx), method, request)
		}
	}
}

func clientStreams(begin clientBegin) rpc.ClientStreamInterceptor {
	return func(next rpc.OpenFunc) rpc.OpenFunc {
		return func(ctx context.Context, method string, request []byte) (*rpc.ClientStream, error) {
			own, end := begin(ctx, method, typeStream)
			stream, err := next(either(own, ctx), method, request)
			if err != nil {
				end(err)
				return nil, err
			}
			context.AfterFunc(stream.Context(), func() {
				cause := context.Cause(stream.Context())
				if cause == context.Canceled && ctx.Err() == nil {
					cause = nil // The client has called Close.
				}
				end(cause)
			})
			return stream, nil
		}
	}
}

func either(own, ctx context.Context) context.Context {
	if own != nil {
		return own
	}
	return ctx
}
