// SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
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

// rawCall is the frame of a request, as a client without a library would write it.
func rawCall(id uint64, method string, data []byte) []byte {
	body := append(binary.AppendUvarint([]byte{1}, id), 0)
	body = append(append(binary.AppendUvarint(body, uint64(len(method))), method...), data...)
	return append(binary.AppendUvarint(nil, uint64(len(body))), body...)
}

func rawDial(tb testing.TB, address string) net.Conn {
	tb.Helper()
	conn, err := net.Dial("unix", address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	return conn
}

// TestServer_ClientReadsNothing_LimitsItsCalls has no more of its calls taken than the limit says,
// whether they run or wait to be answered.
func TestServer_ClientReadsNothing_LimitsItsCalls(t *testing.T) {
	const limit = 100
	address := ipctest.SocketPath(t)
	var handled atomic.Int64
	serve(t, address, func(s *ours.Server) {
		s.SetMaxConcurrentCalls(limit, limit)
		s.Handle("count", func(context.Context, []byte) ([]byte, error) { handled.Add(1); return make([]byte, 1<<20), nil })
	}, udsipc.WithMaxBufferedBytes(1<<20))
	conn := rawDial(t, address)
	if err := conn.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	for id := uint64(1); ; id++ {
		if _, err := conn.Write(rawCall(id, "count", make([]byte, 2000))); err != nil {
			break // The server takes no more.
		}
		if id > 100_000 {
			t.Fatal("the server takes every call")
		}
	}
	if n := runtime.NumGoroutine() - before; n > 2*limit+10 {
		t.Errorf("%d goroutines for a client that reads nothing", n)
	}
	conn.Close()
}

// TestClient_OpenStreamDuringEnd_DoesNotDeadlock: neither a Stop at that moment nor a server that
// ends calls before they are made locks the Client.
func TestClient_OpenStreamDuringEnd_DoesNotDeadlock(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	serve(t, address, nil)
	for range 200 {
		c, err := ours.NewClient(address)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		var both sync.WaitGroup
		both.Go(func() {
			for range 20 {
				if s, err := c.OpenStream(t.Context(), "nobody", nil); err == nil {
					s.Close()
				}
			}
		})
		both.Go(func() { _ = c.Stop(ended) }) // It says what was under way.
		both.Wait()
		ipctest.Stop(t, c)
	}
}

func TestClient_UnknownCallID_IsIgnored(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	l, err := udsipc.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := ours.NewClient(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() { // Ends with the connection.
		for range conn.Messages() {
		}
	}()
	over := make(chan struct{})
	go func() { // Ends with over.
		for id := uint64(1); ; id++ {
			select {
			case <-over:
				return
			default:
				if conn.WriteMessage(append(binary.AppendUvarint([]byte{3}, 1+id%300), 1)) != nil {
					return
				}
			}
		}
	}()
	for range 200 {
		if s, err := c.OpenStream(t.Context(), "x", nil); err == nil {
			s.Close()
		}
	}
	close(over)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_ = c.Stop(ended) // What the server has not read yet does not matter.
}

// TestCall_Oversized_FailsWithTooLarge: whatever is, and on which side ever, its caller is told, and the others go on.
func TestCall_Oversized_FailsWithTooLarge(t *testing.T) {
	t.Parallel()
	const limit = 1 << 10
	address, roomy := ipctest.SocketPath(t), ipctest.SocketPath(t)
	handlers := func(s *ours.Server) {
		s.Handle("text", func(context.Context, []byte) ([]byte, error) {
			return nil, errors.New(strings.Repeat("x", 2*limit))
		})
		s.Handle("large", func(context.Context, []byte) ([]byte, error) { return make([]byte, 2*limit), nil })
		s.Handle("slow", func(context.Context, []byte) ([]byte, error) {
			time.Sleep(100 * time.Millisecond)
			return nil, nil
		})
		s.HandleStream("one", func(_ context.Context, s *ours.Stream) error { return s.Send(make([]byte, 11<<20)) })
		s.HandleStream("many", func(_ context.Context, s *ours.Stream) error {
			for range 500 {
				if err := s.Send(make([]byte, limit-100)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	serve(t, address, handlers, udsipc.WithMaxMessageSize(limit))
	serve(t, roomy, handlers)
	narrow, wide, odd := dial(t, address, udsipc.WithMaxMessageSize(limit)), dial(t, address),
		dial(t, roomy, udsipc.WithMaxMessageSize(limit))
	slow := make(chan error, 2)
	for _, c := range []*ours.Client{wide, odd} {
		go func() { _, err := c.Call(t.Context(), "slow", nil); slow <- err }() // Ends with the call.
	}
	for name, test := range map[string]struct {
		c      *ours.Client
		method string
		size   int
		want   ours.Code
	}{
		"an error's text":                  {narrow, "text", 1, ours.CodeUnknown},
		"the name of an unknown method":    {narrow, strings.Repeat("\x01", limit/2), 1, ours.CodeUnknownMethod},
		"a request, for the server alone":  {wide, "echo", 2 * limit, ours.CodeTooLarge},
		"a response, for the client alone": {odd, "large", 1, ours.CodeTooLarge},
	} {
		if _, err := test.c.CallIdempotent(t.Context(), test.method, make([]byte, test.size)); ours.CodeOf(err) != test.want {
			t.Errorf("%s: %.100v, want %v", name, err, test.want)
		}
	}
	for range 2 {
		if err := <-slow; err != nil {
			t.Errorf("a call beside it: %v", err)
		}
	}
	s, err := wide.OpenStream(t.Context(), "one", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Receive(); ours.CodeOf(err) != ours.CodeTooLarge {
		t.Errorf("a message of a stream: %v", err)
	}
	many, err := narrow.OpenStream(t.Context(), "many", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer many.Close()
	for n := 0; ; n++ {
		if _, err := many.Receive(); err == io.EOF && n == 500 {
			break
		} else if err != nil {
			t.Fatalf("after %d messages of a stream under a small limit: %v", n, err)
		}
	}
}

// TestServer_HandlerFails_EndsItsCall have their call ended all the same.
func TestServer_HandlerFails_EndsItsCall(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	s := serve(t, address, func(s *ours.Server) {
		s.Handle("goexit", func(context.Context, []byte) ([]byte, error) { runtime.Goexit(); return nil, nil })
		s.Handle("nil", func(context.Context, []byte) ([]byte, error) { return nil, (*ours.Error)(nil) })
	})
	c := dial(t, address)
	for method, want := range map[string]ours.Code{"goexit": ours.CodePanic, "nil": ours.CodeUnknown} {
		if _, err := c.Call(t.Context(), method, nil); ours.CodeOf(err) != want {
			t.Errorf("%s: %v", method, err)
		}
	}
	ipctest.Until(t, "nothing is under way", func() bool { return s.ActiveCalls() == 0 })
}

// TestServer_Contexts_EndWithTheirCall with what they are for: that of a notification when it is
// handled, that of a stream with the stream.
func TestServer_Contexts_EndWithTheirCall(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	contexts := make(chan context.Context, 1)
	serve(t, address, func(s *ours.Server) {
		s.Handle("note", func(ctx context.Context, _ []byte) ([]byte, error) { contexts <- ctx; return nil, nil })
		s.HandleStream("busy", func(ctx context.Context, s *ours.Stream) error {
			contexts <- ctx
			if err := s.CloseSend(); err != nil {
				return err
			}
			<-ctx.Done()
			return nil
		})
		s.HandleStream("fails", func(context.Context, *ours.Stream) error { return &ours.Error{Code: ours.CodeNotFound} })
	})
	c := dial(t, address)
	if err := c.Notify("note", nil); err != nil {
		t.Fatal(err)
	}
	<-(<-contexts).Done()
	busy, err := c.OpenStream(t.Context(), "busy", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := busy.Receive(); err != io.EOF {
		t.Error(err)
	}
	if err := busy.CloseSend(); err != nil {
		t.Error(err)
	}
	busy.Close()
	<-(<-contexts).Done()
	fails, err := c.OpenStream(t.Context(), "fails", nil)
	if err != nil {
		t.Fatal(err)
	}
	<-fails.Context().Done()
	if _, err := fails.Receive(); ours.CodeOf(err) != ours.CodeNotFound {
		t.Error(err)
	}
}

// TestServer_ClientsDie_FreesConnections although their handlers are stuck.
func TestServer_ClientsDie_FreesConnections(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	entered, release := make(chan struct{}), make(chan struct{})
	serve(t, address, func(s *ours.Server) {
		s.Handle("stuck", func(context.Context, []byte) ([]byte, error) { entered <- struct{}{}; <-release; return nil, nil })
	}, udsipc.WithMaxConnections(2))
	for range 2 {
		conn := rawDial(t, address)
		if _, err := conn.Write(rawCall(1, "stuck", nil)); err != nil {
			t.Fatal(err)
		}
		<-entered
		conn.Close()
	}
	c := dial(t, address)
	if _, err := c.CallIdempotent(t.Context(), "echo", nil); err != nil {
		t.Error(err)
	}
	close(release)
}

// TestClient_CanceledWhileAway_IsNotSent while the client was away are not made later.
func TestClient_CanceledWhileAway_IsNotSent(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	c := dial(t, address, udsipc.WithMaxBufferedWrites(10))
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if _, err := c.Call(ctx, "pay", nil); ours.CodeOf(err) != ours.CodeDeadlineExceeded {
			t.Error(err)
		}
		cancel()
	}
	var paid atomic.Int64
	serve(t, address, func(s *ours.Server) {
		s.Handle("pay", func(context.Context, []byte) ([]byte, error) { paid.Add(1); return nil, nil })
	})
	if _, err := c.Call(t.Context(), "echo", nil); err != nil {
		t.Error(err)
	}
	if n := paid.Load(); n != 0 {
		t.Errorf("%d calls were made for nobody", n)
	}
}

// TestServer_StreamInterceptors_WrapHandlers, and that a second Start waits until the interceptors
// of the first are in place.
func TestServer_StreamInterceptors_WrapHandlers(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	s, err := ours.NewServer(address)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 1000 {
		s.Handle(fmt.Sprint("method ", n), echo)
	}
	s.HandleStream("open", func(context.Context, *ours.Stream) error { return nil })
	denied := &ours.Error{Code: ours.CodePermissionDenied, Message: "closed"}
	s.Use(func(ours.Handler) ours.Handler {
		return func(context.Context, []byte) ([]byte, error) { return nil, denied }
	})
	s.UseStream(func(ours.StreamHandler) ours.StreamHandler {
		return func(context.Context, *ours.Stream) error { return denied }
	})
	c := dial(t, address)
	var starts sync.WaitGroup
	for range 2 {
		starts.Go(func() {
			if err := s.Start(); err != nil {
				t.Error(err)
			}
			for _, n := range []int{0, 999} {
				if _, err := c.Call(t.Context(), fmt.Sprint("method ", n), nil); ours.CodeOf(err) != ours.CodePermissionDenied {
					t.Error(err)
				}
			}
		})
	}
	starts.Wait()
	stream, err := c.OpenStream(t.Context(), "open", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if _, err := stream.Receive(); ours.CodeOf(err) != ours.CodePermissionDenied {
		t.Error(err)
	}
	ipctest.Stop(t, c)
	ipctest.Stop(t, s)
}

func TestNew_DropOldest_IsError(t *testing.T) {
	t.Parallel()
	if _, err := ours.NewClient("x", udsipc.WithOverflow(udsipc.OverflowDropOldest)); err == nil {
		t.Error("a Client drops requests")
	}
	if _, err := ours.NewServer("x", udsipc.WithOverflow(udsipc.OverflowDropOldest)); err == nil {
		t.Error("a Server drops responses")
	}
	if _, err := ours.NewServer("x", udsipc.WithOverflow(udsipc.OverflowRefuse)); err == nil {
		t.Error("a Server refuses its own responses")
	}
}

// TestServer_StopSlowClient_SendsResponse although the server stops, and over TCP, where a socket
// that is closed takes back what it can.
func TestServer_StopSlowClient_SendsResponse(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	s := serve(t, address, func(s *ours.Server) {
		s.Handle("large", func(context.Context, []byte) ([]byte, error) { return make([]byte, 6<<20), nil })
	}, udsipc.WithWriteTimeout(10*time.Millisecond))
	conn := rawDial(t, address)
	if _, err := conn.Write(rawCall(1, "large", nil)); err != nil {
		t.Fatal(err)
	}
	ipctest.Until(t, "it is called", func() bool { return s.Metrics().Received == 1 })
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(t.Context()) }() // Ends with the response.
	time.Sleep(100 * time.Millisecond)
	if n, err := io.Copy(io.Discard, conn); n < 6<<20 {
		t.Errorf("%d bytes of the response, %v", n, err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
