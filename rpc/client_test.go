// SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	ours "github.com/udsipc/udsipc/rpc"
)

// TestClient_ManyCalls_ShareConnection over one connection, answered in the opposite order.
func TestClient_ManyCalls_ShareConnection(t *testing.T) {
	t.Parallel()
	const calls = 10_000
	address := ipctest.SocketPath(t)
	var waiting atomic.Int64
	release := make(chan struct{})
	s := serve(t, address, func(s *ours.Server) {
		s.Handle("wait", func(_ context.Context, request []byte) ([]byte, error) {
			if waiting.Add(1) == calls {
				close(release)
			}
			<-release
			return request, nil
		})
	})
	c := dial(t, address)
	var all sync.WaitGroup
	for n := range calls {
		all.Go(func() {
			request := fmt.Appendf(nil, "call %d", n)
			if response, err := c.Call(t.Context(), "wait", request); err != nil || !bytes.Equal(response, request) {
				t.Errorf("call %d: %q, %v", n, response, err)
			}
		})
	}
	all.Wait()
	if s.Metrics().Accepted != 1 {
		t.Errorf("%d connections", s.Metrics().Accepted)
	}
	ipctest.Until(t, "nothing is under way", func() bool { return s.ActiveCalls() == 0 })
}

func TestClient_Notify_IsHandledInOrder(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	got := make(chan string, 100)
	serve(t, address, func(s *ours.Server) {
		s.Handle("note", func(_ context.Context, data []byte) ([]byte, error) { got <- string(data); return nil, nil })
	})
	c := dial(t, address)
	for n := range 50 {
		if err := c.Notify("note", fmt.Append(nil, n)); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 50 {
		if text := <-got; text != fmt.Sprint(n) {
			t.Errorf("%s, want %d", text, n)
		}
	}
}

// TestClient_ConnectionLost_FailsSentCalls: only the calls fail that were sent, those marked
// idempotent are sent again, and those that were not sent wait.
func TestClient_ConnectionLost_FailsSentCalls(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	l, err := udsipc.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, address)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	lost, again := make(chan error, 1), make(chan error, 1)
	go func() { _, err := c.Call(t.Context(), "echo", []byte("once")); lost <- err }() // Both end with the Server below.
	if _, err := conn.ReadMessage(); err != nil {
		t.Fatal(err)
	}
	go func() { _, err := c.CallIdempotent(t.Context(), "echo", []byte("again")); again <- err }()
	if _, err := conn.ReadMessage(); err != nil {
		t.Fatal(err)
	}
	l.Close()
	conn.Close()
	if err := <-lost; ours.CodeOf(err) != ours.CodeConnectionLost || !errors.Is(err, udsipc.ErrConnectionClosed) {
		t.Error(err)
	}
	waits := make(chan error, 1)
	go func() { _, err := c.Call(t.Context(), "echo", []byte("waits")); waits <- err }() // Ends with the Server.
	serve(t, address, nil)
	for name, result := range map[string]chan error{"idempotent": again, "not sent": waits} {
		if err := <-result; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClient_Stop_WaitsForCalls(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	entered, release := make(chan struct{}), make(chan struct{})
	serve(t, address, func(s *ours.Server) {
		s.Handle("wait", func(context.Context, []byte) ([]byte, error) {
			close(entered)
			<-release
			return []byte("done"), nil
		})
	})
	c := dial(t, address)
	result := make(chan string, 1)
	go func() { // Ends with the call.
		response, err := c.Call(t.Context(), "wait", nil)
		result <- fmt.Sprint(string(response), err)
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- c.Stop(t.Context()) }() // Ends with the call.
	ipctest.Until(t, "new calls are refused", func() bool {
		_, err := c.Call(t.Context(), "echo", nil)
		return ours.CodeOf(err) == ours.CodeStopped
	})
	close(release)
	if got := <-result; got != "done<nil>" {
		t.Error(got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestCall_AllocatesTwice twice: the call at the server, and the response at the client.
func TestCall_AllocatesTwice(t *testing.T) {
	if ipctest.RaceEnabled {
		t.Skip("the race detector allocates, and empties pools")
	}
	address := ipctest.SocketPath(t)
	serve(t, address, nil)
	c := dial(t, address)
	request := make([]byte, 128)
	if n := testing.AllocsPerRun(2000, func() {
		if _, err := c.Call(context.Background(), "echo", request); err != nil {
			t.Error(err)
		}
	}); n > 2.5 { // A pool may be emptied.
		t.Errorf("%v allocations a call, want 2", n)
	}
}
