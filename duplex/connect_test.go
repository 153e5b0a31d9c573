// SPDX-License-Identifier: Apache-2.0

package duplex_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// A greeter is a Server whose function of OnConnect is set.
func greeter(t *testing.T, on *ipctest.Route, connected func(c *duplex.ServerConn), handler duplex.Handler,
	opts ...udsipc.ReaderOption) *duplex.Server {
	t.Helper()
	s, err := duplex.NewServer(on.Address, handler, on.ReaderOptions(t, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	s.OnConnect(connected)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ipctest.Stop(t, s) })
	return s
}

// TestServer_OnConnect_ComesFirst: the function runs before the first message of its client, although that was sent
// first, and what it sends comes before a Broadcast.
func TestServer_OnConnect_ComesFirst(t *testing.T) {
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		var mu sync.Mutex
		var events []string
		note := func(event string) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, event)
		}
		ended := make(chan struct{})
		server := make(chan *duplex.Server, 2)
		s := greeter(t, on, func(c *duplex.ServerConn) {
			s := <-server
			if reached, err := s.Broadcast(duplex.Message{Type: 9}); reached != 0 || err != nil {
				t.Errorf("a broadcast reached %d, %v", reached, err)
			}
			for range s.Conns() {
				t.Error("the connection is in Conns before the function has returned")
			}
			note("connected")
			context.AfterFunc(c.Context(), func() { close(ended) })
			if err := c.Send(duplex.Message{Type: 1, Data: []byte("welcome")}); err != nil {
				t.Error(err)
			}
		}, func(_ context.Context, c *duplex.ServerConn, m duplex.Message) error {
			note("message")
			s := <-server
			if reached, err := s.Broadcast(duplex.Message{Type: 2}); reached != 1 || err != nil {
				t.Errorf("a broadcast reached %d, %v", reached, err)
			}
			return c.Send(m)
		})
		server <- s
		server <- s
		c := dial(t, on.Address, on.WriterOptions(t)...)
		if err := c.Send(duplex.Message{Type: 3}); err != nil {
			t.Fatal(err)
		}
		for _, want := range []uint32{1, 2, 3} {
			if m := receive(t, c); m.Type != want {
				t.Errorf("type %d, want %d", m.Type, want)
			}
		}
		ipctest.Stop(t, c)
		ipctest.Await(t, "the context of the connection ends", ended)
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(events, []string{"connected", "message"}) {
			t.Errorf("%q", events)
		}
	})
}

// TestServer_OnConnectFails_ClosesConnection: a panic is reported, and no message of this client is handled.
func TestServer_OnConnectFails_ClosesConnection(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(c *duplex.ServerConn){
		"panic":  func(*duplex.ServerConn) { panic("oh") },
		"goexit": func(*duplex.ServerConn) { runtime.Goexit() },
		"close":  func(c *duplex.ServerConn) { _ = c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			address, reported := ipctest.SocketPath(t), ipctest.Collect()
			s, err := duplex.NewServer(address, func(_ context.Context, _ *duplex.ServerConn, m duplex.Message) error {
				t.Errorf("a message of type %d was handled", m.Type)
				return nil
			}, udsipc.WithReaderErrorCallback(reported.Callback))
			if err != nil {
				t.Fatal(err)
			}
			s.OnConnect(end)
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
			conn, err := udsipc.Dial(t.Context(), address)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.WriteMessage([]byte{1}) // It may be too late.
			if data, err := conn.ReadMessage(); err == nil {
				t.Errorf("the server sends % x", data)
			}
			_ = conn.Close()
			if name != "close" {
				reported.Want(t, udsipc.ErrHandlerFailed)
			}
			ipctest.Until(t, "the connection is gone", func() bool { return s.Metrics().Connections == 0 })
			ipctest.Stop(t, s)
		})
	}
}

// TestServer_OnConnectBlocks_DelaysOneClient: others are served meanwhile. A Stop whose context ends does not wait,
// and one that waits has the messages handled that the client had sent.
func TestServer_OnConnectBlocks_DelaysOneClient(t *testing.T) {
	t.Parallel()
	on := &ipctest.Route{Address: ipctest.SocketPath(t)}
	entered, release, handled := make(chan struct{}), make(chan struct{}), make(chan uint32, 10)
	var later atomic.Bool
	s := greeter(t, on, func(*duplex.ServerConn) {
		if !later.Swap(true) {
			close(entered)
			<-release
		}
	}, func(_ context.Context, c *duplex.ServerConn, m duplex.Message) error {
		handled <- m.Type
		return c.Send(m)
	})
	slow := dial(t, on.Address)
	if err := slow.Send(duplex.Message{Type: 1}); err != nil {
		t.Fatal(err)
	}
	ipctest.Await(t, "the function runs", entered)
	fast := dial(t, on.Address)
	if err := fast.Send(duplex.Message{Type: 2}); err != nil {
		t.Fatal(err)
	}
	receive(t, fast)
	if got := <-handled; got != 2 {
		t.Errorf("type %d was handled first", got)
	}
	if err := slow.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(t.Context()) }()
	ipctest.Until(t, "Stop has begun", func() bool { return s.Start() == udsipc.ErrStopped })
	close(release)
	if err := ipctest.Await(t, "Stop returns", stopped); err != nil {
		t.Error(err)
	}
	if got := ipctest.Await(t, "the message is handled", handled); got != 1 && runtime.GOOS == "linux" {
		t.Errorf("type %d was handled last", got)
	}
}

func TestServer_ForcedStop_EndsContextOfOnConnect(t *testing.T) {
	t.Parallel()
	on := &ipctest.Route{Address: ipctest.SocketPath(t)}
	entered, left := make(chan struct{}), make(chan struct{})
	s := greeter(t, on, func(c *duplex.ServerConn) {
		close(entered)
		<-c.Context().Done()
		close(left)
	}, echo)
	conn, err := udsipc.Dial(t.Context(), on.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ipctest.Await(t, "the function runs", entered)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	ipctest.Await(t, "the function has returned", left)
}

func TestServer_OnConnect_EachClientOnce(t *testing.T) {
	t.Parallel()
	const clients, rounds = 20, 5
	on := &ipctest.Route{Address: ipctest.SocketPath(t)}
	var mu sync.Mutex
	connected, ended := map[uint64]int{}, make(chan struct{}, clients*rounds)
	greeter(t, on, func(c *duplex.ServerConn) {
		mu.Lock()
		defer mu.Unlock()
		connected[c.Peer().ID]++
		context.AfterFunc(c.Context(), func() { ended <- struct{}{} })
	}, echo)
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for range rounds {
				conn, err := udsipc.Dial(t.Context(), on.Address)
				if err != nil {
					t.Error(err)
					return
				}
				_ = conn.Close() // Often before the function has returned, or was called.
			}
		})
	}
	all.Wait()
	for range clients * rounds {
		ipctest.Await(t, "the connections end", ended)
	}
	if len(connected) != clients*rounds {
		t.Errorf("%d connections of %d", len(connected), clients*rounds)
	}
	for id, n := range connected {
		if n != 1 {
			t.Errorf("%d times for connection %d", n, id)
		}
	}
}

func TestServer_OnConnect_PanicsWhenMisused(t *testing.T) {
	t.Parallel()
	on := &ipctest.Route{Address: ipctest.SocketPath(t)}
	started := greeter(t, on, func(*duplex.ServerConn) {}, echo)
	fresh := func() *duplex.Server {
		s, err := duplex.NewServer(ipctest.SocketPath(t), echo)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	twice := fresh()
	twice.OnConnect(func(*duplex.ServerConn) {})
	for name, call := range map[string]func(){
		"started": func() { started.OnConnect(func(*duplex.ServerConn) {}) },
		"nil":     func() { fresh().OnConnect(nil) },
		"twice":   func() { twice.OnConnect(func(*duplex.ServerConn) {}) },
	} {
		func() {
			defer func() {
				if value := recover(); value == nil {
					t.Error(fmt.Sprint(name, ": no panic"))
				}
			}()
			call()
		}()
	}
}
