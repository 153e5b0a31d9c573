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

	"github.com/udsipc/udsipc"
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
