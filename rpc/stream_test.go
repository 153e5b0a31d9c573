// SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/ipctest"
	ours "github.com/udsipc/udsipc/rpc"
)

func TestStream_CarriesBothDirections(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	ended := make(chan error, 10)
	serve(t, address, func(s *ours.Server) {
		s.HandleStream("echo stream", func(ctx context.Context, stream *ours.Stream) error {
			for {
				data, err := stream.Receive()
				if err == io.EOF {
					return nil
				}
				if err != nil {
					ended <- err
					return err
				}
				if err := stream.Send(data); err != nil {
					ended <- err
					return err
				}
			}
		})
		s.HandleStream("fails", func(context.Context, *ours.Stream) error {
			return &ours.Error{Code: ours.CodeFirstUser, Message: "no more"}
		})
		s.HandleStream("unread", func(ctx context.Context, _ *ours.Stream) error {
			<-ctx.Done()
			ended <- ctx.Err()
			return ctx.Err()
		})
	})
	c := dial(t, address)
	t.Run("both ways", func(t *testing.T) {
		const messages = 5000
		s, err := c.OpenStream(t.Context(), "echo stream", nil)
		if err != nil {
			t.Fatal(err)
		}
		go func() { // Ends with its messages.
			for n := range messages {
				if err := s.Send(append(fmt.Appendf(nil, "%d ", n), make([]byte, n%2000)...)); err != nil {
					t.Error(err)
					return
				}
			}
			if err := s.CloseSend(); err != nil {
				t.Error(err)
			}
		}()
		for n := range messages {
			data, err := s.Receive()
			if err != nil || !strings.HasPrefix(string(data), fmt.Sprint(n, " ")) ||
				len(data) != len(fmt.Sprint(n, " "))+n%2000 {
				t.Fatalf("message %d: %.10q, %v", n, data, err)
			}
		}
		for range 2 {
			if _, err := s.Receive(); err != io.EOF {
				t.Error(err)
			}
		}
		if err := s.Send(nil); ours.CodeOf(err) != ours.CodeFailedPrecondition {
			t.Error(err)
		}
		s.Close()
	})
	t.Run("unknown", func(t *testing.T) {
		s, err := c.OpenStream(t.Context(), "nobody", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := s.Receive(); ours.CodeOf(err) != ours.CodeUnknownMethod {
			t.Error(err)
		}
	})
	t.Run("an error", func(t *testing.T) {
		s, err := c.OpenStream(t.Context(), "fails", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := s.Receive(); ours.CodeOf(err) != ours.CodeFirstUser {
			t.Error(err)
		}
	})
	t.Run("nobody reads", func(t *testing.T) {
		s, err := c.OpenStream(t.Context(), "unread", nil)
		if err != nil {
			t.Fatal(err)
		}
		var sent atomic.Int64
		blocked := make(chan error, 1)
		go func() { // Ends with the stream.
			for {
				if err := s.Send(make([]byte, 1000)); err != nil {
					blocked <- err
					return
				}
				sent.Add(1)
			}
		}()
		before := int64(-1)
		ipctest.Until(t, "the window is full", func() bool {
			now := sent.Load()
			same := now == before && now > 0
			before = now
			time.Sleep(20 * time.Millisecond)
			return same
		})
		if n := sent.Load(); n > 1100 {
			t.Errorf("%d kB went out to nobody", n)
		}
		if response, err := c.Call(t.Context(), "echo", []byte("not held up")); err != nil ||
			string(response) != "not held up" {
			t.Errorf("%q, %v", response, err)
		}
		s.Close()
		if err := <-blocked; ours.CodeOf(err) != ours.CodeCanceled {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("its context", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		s, err := c.OpenStream(ctx, "unread", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Receive(); ours.CodeOf(err) != ours.CodeDeadlineExceeded {
			t.Error(err)
		}
		<-ended
	})
}
