// SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/codec"
	"github.com/udsipc/udsipc/internal/ipctest"
	ours "github.com/udsipc/udsipc/rpc"
)

// TestError_Mapping_IsSymmetrical: an error that a handler returns has its code, the caller's error matches the same,
// and the text is that of the handler's error.
func TestError_Mapping_IsSymmetrical(t *testing.T) {
	t.Parallel()
	_, notThere := os.Stat("/nonexistent/file")
	rows := []struct {
		handler error
		code    ours.Code
		is      error
	}{
		{notThere, ours.CodeNotFound, os.ErrNotExist},
		{fmt.Errorf("reading: %w", fs.ErrNotExist), ours.CodeNotFound, fs.ErrNotExist},
		{&fs.PathError{Op: "open", Path: "/p", Err: os.ErrPermission}, ours.CodePermissionDenied, os.ErrPermission},
		{os.ErrExist, ours.CodeAlreadyExists, os.ErrExist},
		{fmt.Errorf("inner: %w", context.Canceled), ours.CodeCanceled, context.Canceled},
		{fmt.Errorf("inner: %w", context.DeadlineExceeded), ours.CodeDeadlineExceeded, context.DeadlineExceeded},
		{udsipc.ErrMessageTooLarge, ours.CodeTooLarge, udsipc.ErrMessageTooLarge},
		{udsipc.ErrBufferFull, ours.CodeResourceExhausted, nil},
		{udsipc.ErrStopped, ours.CodeStopped, udsipc.ErrStopped},
		{udsipc.ErrConnectionClosed, ours.CodeConnectionLost, udsipc.ErrConnectionClosed},
		{udsipc.ErrNotConnected, ours.CodeUnavailable, nil},
		{fmt.Errorf("%w: %w", udsipc.ErrNotConnected, os.ErrNotExist), ours.CodeUnavailable, nil}, // A socket, not an item.
		{ours.Errorf(ours.CodeUnauthenticated, "who? %w", os.ErrNotExist), ours.CodeUnauthenticated, nil},
		{errors.New("secret"), ours.CodeUnknown, nil},
		{(*ours.Error)(nil), ours.CodeUnknown, nil},
	}
	all := []error{
		os.ErrNotExist, os.ErrPermission, os.ErrExist, context.Canceled, context.DeadlineExceeded,
		udsipc.ErrMessageTooLarge, udsipc.ErrBufferFull, udsipc.ErrStopped, udsipc.ErrConnectionClosed,
		udsipc.ErrNotConnected,
	}
	address := ipctest.SocketPath(t)
	serve(t, address, func(s *ours.Server) {
		for i, row := range rows {
			s.Handle(fmt.Sprint(i), func(context.Context, []byte) ([]byte, error) { return nil, row.handler })
			s.HandleStream(fmt.Sprint("stream ", i), func(context.Context, *ours.Stream) error { return row.handler })
		}
	})
	c := dial(t, address)
	for i, row := range rows {
		_, callErr := c.Call(t.Context(), fmt.Sprint(i), nil)
		stream, err := c.OpenStream(t.Context(), fmt.Sprint("stream ", i), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, streamErr := stream.Receive()
		_ = stream.Close()
		for _, err := range []error{callErr, streamErr} {
			var e *ours.Error
			if !errors.As(err, &e) || e.Code != row.code || ours.CodeOf(err) != row.code {
				t.Errorf("%v became %v, want %v", row.handler, err, row.code)
				continue
			}
			if i < len(rows)-2 && !strings.HasSuffix(row.handler.Error(), e.Message) {
				t.Errorf("%v became %q", row.handler, e.Message)
			}
			for _, target := range all {
				if errors.Is(err, target) != (target == row.is) {
					t.Errorf("%v matches %v: %v", err, target, errors.Is(err, target))
				}
			}
		}
	}
}

func TestErrorf_KeepsCauseHere(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	for _, err := range []error{
		ours.Errorf(ours.CodeNotFound, "item %d: %w", 7, cause),
		ours.Errorf(ours.CodeNotFound, "item %d: %w%w", 7, cause, errors.New("")),
	} {
		if !errors.Is(err, cause) || !errors.Is(err, os.ErrNotExist) || ours.CodeOf(err) != ours.CodeNotFound ||
			!errors.Is(err, &ours.Error{Code: ours.CodeNotFound, Message: "item 7: cause"}) {
			t.Error(err)
		}
		if want := "udsipc/rpc: not found: item 7: cause"; err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
	if err := ours.Errorf(ours.CodeFirstUser, "100%%"); errors.Is(err, cause) || !strings.HasSuffix(err.Error(), "100%") {
		t.Error(err)
	}
}

// TestError_WrappedByHandler_KeepsText: the caller gets the code of the Error, and the text of the handler's error.
func TestError_WrappedByHandler_KeepsText(t *testing.T) {
	t.Parallel()
	missing := ours.Errorf(ours.CodeNotFound, "no item")
	address := ipctest.SocketPath(t)
	rows := map[string]error{
		"reading: no item":         fmt.Errorf("reading: %w", missing),
		"reading: no item (again)": fmt.Errorf("reading: %w (again)", missing),
		"no item\ntoo late":        errors.Join(missing, errors.New("too late")),
		"no item":                  missing,
		"no \uFFFD":                ours.Errorf(ours.CodeNotFound, "no \xff"), // The protocol has UTF-8.
	}
	serve(t, address, func(s *ours.Server) {
		for text, err := range rows {
			s.Handle(text, func(context.Context, []byte) ([]byte, error) { return nil, err })
		}
	})
	c := dial(t, address)
	for text := range rows {
		_, err := c.Call(t.Context(), text, nil)
		if want := "udsipc/rpc: not found: " + text; err == nil || err.Error() != want || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestError_Nil_IsHarmless(t *testing.T) {
	t.Parallel()
	none := (*ours.Error)(nil)
	for _, err := range []error{none, fmt.Errorf("wrapped: %w", none), errors.Join(errors.New("other"), none)} {
		if ours.CodeOf(err) != ours.CodeUnknown || errors.Is(err, os.ErrNotExist) || err.Error() == "" {
			t.Errorf("%v has code %v", err, ours.CodeOf(err))
		}
	}
	if errors.Is(ours.Errorf(ours.CodeNotFound, "text"), none) {
		t.Error("an Error matches nil")
	}
}

// TestStream_ContextCause_IsNoErrorOfHandler: a caller that cancels with a cause, as an errgroup does with the error of
// another call, has cancelled, and an iterator ends.
func TestStream_ContextCause_IsNoErrorOfHandler(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	serve(t, address, func(s *ours.Server) {
		s.HandleStream("wait", func(ctx context.Context, s *ours.Stream) error {
			<-ctx.Done()
			return ctx.Err()
		})
	})
	wait := ours.NewStreamMethod("wait", codec.None, codec.None, codec.JSON[int]())
	c := dial(t, address)
	for _, cause := range []error{
		errors.New("mine"), os.ErrNotExist, ours.Errorf(ours.CodeNotFound, "of another call"), codec.ErrInvalid,
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		stream, err := wait.Open(ctx, c, struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		cancel(cause)
		var errs []error
		for _, err := range stream.Messages() {
			if errs = append(errs, err); len(errs) > 1 {
				break
			}
		}
		if len(errs) != 1 || ours.CodeOf(errs[0]) != ours.CodeCanceled || !errors.Is(errs[0], context.Canceled) ||
			errors.Is(errs[0], cause) || !strings.Contains(errs[0].Error(), cause.Error()) {
			t.Errorf("%v became %v", cause, errs)
		}
		_ = stream.Close()
	}
	// The same while there is no connection.
	unstarted := client(t, ipctest.SocketPath(t))
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(time.Millisecond, func() { cancel(ours.Errorf(ours.CodeNotFound, "of another call")) })
	_, err := unstarted.Call(ctx, "wait", nil)
	if ours.CodeOf(err) != ours.CodeCanceled || errors.Is(err, &ours.Error{Code: ours.CodeNotFound}) {
		t.Error(err)
	}
}
