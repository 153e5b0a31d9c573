// SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	ours "github.com/udsipc/udsipc/rpc"
)

func echo(_ context.Context, request []byte) ([]byte, error) { return request, nil }

// serve returns a Server that was started and ends with the test, once prepare has given it its handlers.
func serve(tb testing.TB, address string, prepare func(s *ours.Server), opts ...udsipc.ReaderOption) *ours.Server {
	tb.Helper()
	s, err := ours.NewServer(address, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	s.Handle("echo", echo)
	if prepare != nil {
		prepare(s)
	}
	if err := s.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ipctest.Stop(tb, s) })
	return s
}

func dial(tb testing.TB, address string, opts ...udsipc.WriterOption) *ours.Client {
	tb.Helper()
	c, err := ours.NewClient(address,
		append([]udsipc.WriterOption{udsipc.WithMaxBackoff(10 * time.Millisecond)}, opts...)...)
	if err != nil {
		tb.Fatal(err)
	}
	if err := c.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ipctest.Stop(tb, c) })
	return c
}

func TestCall_ReturnsResponse(t *testing.T) {
	t.Parallel()
	addresses := map[string]string{"unix": ipctest.SocketPath(t), "tcp": ipctest.TcpAddress(t)}
	if runtime.GOOS == "linux" {
		addresses["abstract"] = ipctest.AbstractName(t)
	}
	for name, address := range addresses {
		t.Run(name, func(t *testing.T) {
			serve(t, address, nil)
			c := dial(t, address)
			for _, size := range []int{0, 1, 100, 70_000, 5 << 20} {
				request := bytes.Repeat([]byte{7}, size)
				response, err := c.Call(t.Context(), "echo", request)
				if err != nil || !bytes.Equal(response, request) || response == nil {
					t.Fatalf("%d bytes of %d, %v", len(response), size, err)
				}
			}
		})
	}
}

// TestCall_EveryFailure_HasItsCode: whatever goes wrong, the caller is told what.
func TestCall_EveryFailure_HasItsCode(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	reported := make(chan error, 10)
	serve(t, address, func(s *ours.Server) {
		s.Handle("plain", func(context.Context, []byte) ([]byte, error) { return nil, errors.New("plain words") })
		s.Handle("coded", func(context.Context, []byte) ([]byte, error) {
			return nil, fmt.Errorf("wrapped: %w", &ours.Error{Code: ours.CodeFirstUser + 5, Message: "mine"})
		})
		s.Handle("panic", func(context.Context, []byte) ([]byte, error) { panic("oh") })
		s.Handle("large", func(context.Context, []byte) ([]byte, error) { return make([]byte, 2000), nil })
		s.Handle("wait", func(ctx context.Context, _ []byte) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() })
	}, udsipc.WithMaxMessageSize(1000), udsipc.WithReaderErrorCallback(func(err error, _ string) { reported <- err }))
	c := dial(t, address, udsipc.WithMaxMessageSize(1000))
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	ended, cancelEnded := context.WithCancel(t.Context())
	cancelEnded()
	for _, test := range []struct {
		ctx    context.Context
		method string
		size   int
		code   ours.Code
		says   string
		is     error
	}{
		{t.Context(), "plain", 1, ours.CodeUnknown, "plain words", nil},
		{t.Context(), "coded", 1, ours.CodeFirstUser + 5, "mine", nil},
		{t.Context(), "panic", 1, ours.CodePanic, "oh", nil},
		{t.Context(), "large", 1, ours.CodeTooLarge, "2000", udsipc.ErrMessageTooLarge},
		{t.Context(), "echo", 1001, ours.CodeTooLarge, "", udsipc.ErrMessageTooLarge},
		{t.Context(), "nobody", 1, ours.CodeUnknownMethod, `"nobody"`, nil},
		{short, "wait", 1, ours.CodeDeadlineExceeded, "", context.DeadlineExceeded},
		{ended, "wait", 1, ours.CodeCanceled, "", context.Canceled},
	} {
		_, err := c.Call(test.ctx, test.method, make([]byte, test.size))
		var e *ours.Error
		if !errors.As(err, &e) || e.Code != test.code || !strings.Contains(e.Message, test.says) ||
			ours.CodeOf(err) != test.code {
			t.Errorf("%s: %v, want %v", test.method, err, test.code)
		}
		if test.is != nil && !errors.Is(err, test.is) || !errors.Is(err, &ours.Error{Code: test.code}) {
			t.Errorf("%s: %v is not %v", test.method, err, test.is)
		}
	}
	if err := <-reported; !errors.Is(err, udsipc.ErrHandlerFailed) || !strings.Contains(err.Error(), "rpc_test.go") {
		t.Errorf("the panic is reported as %v", err)
	}
	if response, err := c.Call(t.Context(), "echo", []byte("still")); err != nil || string(response) != "still" {
		t.Errorf("%q, %v", response, err)
	}
}

func TestServer_MaxConcurrentCalls_Rejects(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	release := make(chan struct{})
	s := serve(t, address, func(s *ours.Server) {
		s.SetMaxConcurrentCalls(2, 3)
		s.Handle("wait", func(context.Context, []byte) ([]byte, error) { <-release; return nil, nil })
	})
	one, two := dial(t, address), dial(t, address)
	var all sync.WaitGroup
	begin := func(c *ours.Client) {
		before := s.ActiveCalls()
		all.Go(func() {
			if _, err := c.Call(t.Context(), "wait", nil); err != nil {
				t.Error(err)
			}
		})
		ipctest.Until(t, "one more is under way", func() bool { return s.ActiveCalls() == before+1 })
	}
	begin(one)
	begin(one)
	if _, err := one.Call(t.Context(), "wait", nil); ours.CodeOf(err) != ours.CodeResourceExhausted {
		t.Error(err)
	}
	begin(two)
	if _, err := two.Call(t.Context(), "wait", nil); ours.CodeOf(err) != ours.CodeResourceExhausted {
		t.Error(err)
	}
	close(release)
	all.Wait()
	if _, err := two.Call(t.Context(), "wait", nil); err != nil {
		t.Error(err)
	}
}

// TestCall_Cancel_ReachesHandler, as a deadline does, and the death of the client.
func TestCall_Cancel_ReachesHandler(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	entered, left := make(chan context.Context, 1), make(chan error, 1)
	s := serve(t, address, func(s *ours.Server) {
		s.Handle("wait", func(ctx context.Context, _ []byte) ([]byte, error) {
			entered <- ctx
			<-ctx.Done()
			left <- ctx.Err()
			return nil, ctx.Err()
		})
	})
	t.Run("cancel", func(t *testing.T) {
		c := dial(t, address)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-entered; cancel() }() // Ends with the call.
		if _, err := c.Call(ctx, "wait", nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("deadline", func(t *testing.T) {
		c := dial(t, address)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		want, _ := ctx.Deadline()
		go func() { // Ends with the call.
			if got, ok := (<-entered).Deadline(); !ok || got.Sub(want).Abs() > time.Second {
				t.Errorf("the handler's deadline is %v, the caller's %v", got, want)
			}
		}()
		if _, err := c.Call(ctx, "wait", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		<-left
	})
	t.Run("death", func(t *testing.T) {
		c := dial(t, address)
		done := make(chan error, 1)
		go func() { _, err := c.Call(t.Context(), "wait", nil); done <- err }() // Ends with the connection.
		ctx := <-entered
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Stop(ended); err == nil {
			t.Error("Stop has lost a call without an error")
		}
		if err := <-done; ours.CodeOf(err) != ours.CodeStopped {
			t.Error(err)
		}
		<-left
		<-ctx.Done()
		ipctest.Until(t, "its calls are free", func() bool { return s.ActiveCalls() == 0 })
	})
}

func TestPeerFromContext_ReturnsCaller(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	var seen []string
	serve(t, address, func(s *ours.Server) {
		s.Handle("who", func(ctx context.Context, _ []byte) ([]byte, error) {
			peer, ok := ours.PeerFromContext(ctx)
			info, _ := ours.CallFromContext(ctx)
			return fmt.Appendf(nil, "%v %v %s %v", ok, peer.Credentials, info.Method, info.ID > 0 && info.Conn != nil), nil
		})
		for _, name := range []string{"outer", "inner"} {
			s.Use(func(next ours.Handler) ours.Handler {
				return func(ctx context.Context, request []byte) ([]byte, error) {
					seen = append(seen, name)
					if string(request) == "refuse" {
						return nil, &ours.Error{Code: ours.CodePermissionDenied, Message: "not you"}
					}
					return next(ctx, request)
				}
			})
		}
	})
	c := dial(t, address)
	response, err := c.Call(t.Context(), "who", nil)
	if err != nil || !strings.HasPrefix(string(response), "true ") || !strings.HasSuffix(string(response), " who true") {
		t.Errorf("%q, %v", response, err)
	}
	if runtime.GOOS == "linux" && !strings.Contains(string(response), "uid") {
		t.Errorf("%q names nobody", response)
	}
	if got := strings.Join(seen, " "); got != "outer inner" {
		t.Errorf("interceptors: %s", got)
	}
	if _, err := c.Call(t.Context(), "who", []byte("refuse")); ours.CodeOf(err) != ours.CodePermissionDenied {
		t.Error(err)
	}
	if _, ok := ours.PeerFromContext(t.Context()); ok {
		t.Error("a peer in a context of nobody's")
	}
}

// TestServer_Stop_FinishesCalls finishes the calls under way, those that lie in the socket included, and loses none.
func TestServer_Stop_FinishesCalls(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("what lies in the socket is lost elsewhere")
	}
	address := ipctest.SocketPath(t)
	const rounds = 20
	handled := make(map[string]int)
	var mu sync.Mutex
	prepare := func(s *ours.Server) {
		s.Handle("slow", func(_ context.Context, request []byte) ([]byte, error) {
			time.Sleep(time.Millisecond)
			mu.Lock()
			handled[string(request)]++
			mu.Unlock()
			return request, nil
		})
	}
	c := dial(t, address)
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	var calls atomic.Int64
	for g := range 8 {
		callers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				request := fmt.Appendf(nil, "%d %d", g, n)
				if response, err := c.Call(t.Context(), "slow", request); err != nil || !bytes.Equal(response, request) {
					t.Errorf("call %s: %q, %v", request, response, err)
					return
				}
				calls.Add(1)
			}
		})
	}
	for range rounds {
		s, err := ours.NewServer(address)
		if err != nil {
			t.Fatal(err)
		}
		prepare(s)
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		before := calls.Load()
		ipctest.Until(t, "calls are answered", func() bool { return calls.Load() > before+20 || t.Failed() })
		ipctest.Stop(t, s)
	}
	last := serve(t, address, prepare)
	cancel()
	callers.Wait()
	ipctest.Stop(t, last)
	for request, n := range handled {
		if n != 1 {
			t.Errorf("call %s was handled %d times", request, n)
		}
	}
	if int64(len(handled)) != calls.Load() {
		t.Errorf("%d calls were handled, %d answered", len(handled), calls.Load())
	}
}
