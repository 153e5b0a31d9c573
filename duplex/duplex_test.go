// SPDX-License-Identifier: Apache-2.0

package duplex_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/seam"
)

func TestMain(m *testing.M) { ipctest.Main(m) }

func serve(tb testing.TB, address string, handler duplex.Handler, opts ...udsipc.ReaderOption) *duplex.Server {
	tb.Helper()
	s, err := duplex.NewServer(address, handler, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ipctest.Stop(tb, s) })
	return s
}

func dial(tb testing.TB, address string, opts ...udsipc.WriterOption) *duplex.Client {
	tb.Helper()
	c, err := duplex.NewClient(address,
		append([]udsipc.WriterOption{udsipc.WithMaxBackoff(10 * time.Millisecond)}, opts...)...)
	if err != nil {
		tb.Fatal(err)
	}
	if err := c.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = c.Stop(ctx) // What is left is the test's affair.
	})
	return c
}

func echo(_ context.Context, s *duplex.ServerConn, m duplex.Message) error { return s.Send(m) }

func receive(tb testing.TB, c *duplex.Client) duplex.Message {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
	defer cancel()
	m, err := c.Receive(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func TestServer_Echo_RoundTrips(t *testing.T) {
	t.Parallel()
	addresses := map[string]string{"unix": ipctest.SocketPath(t), "tcp": ipctest.TcpAddress(t)}
	if runtime.GOOS == "linux" {
		addresses["abstract"] = ipctest.AbstractName(t)
	}
	for name, address := range addresses {
		t.Run(name, func(t *testing.T) {
			serve(t, address, echo)
			c := dial(t, address)
			for i, kind := range []uint32{0, 1, 127, 128, math.MaxUint32} {
				want := duplex.Message{Type: kind, Data: bytes.Repeat([]byte{byte(i)}, i*30_000)}
				if err := c.Send(want); err != nil {
					t.Fatal(err)
				}
				if got := receive(t, c); got.Type != want.Type || !bytes.Equal(got.Data, want.Data) {
					t.Errorf("type %d, %d bytes; want %d, %d", got.Type, len(got.Data), want.Type, len(want.Data))
				}
			}
		})
	}
}

// TestServer_Restarts_LoseNothing of a server that is stopped, one after the other, under clients
// that send all the time.
func TestServer_Restarts_LoseNothing(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("what lies in the socket is lost elsewhere")
	}
	const clients, restarts = 4, 20
	address := ipctest.SocketPath(t)
	var mu sync.Mutex
	next := map[uint32]int{}
	handled := make(chan struct{}, 1)
	handler := func(_ context.Context, s *duplex.ServerConn, m duplex.Message) error {
		mu.Lock()
		defer mu.Unlock()
		if want := fmt.Sprint(next[m.Type], " "); !strings.HasPrefix(string(m.Data), want) {
			t.Errorf("client %d: %.20q, want %s", m.Type, m.Data, want)
		}
		next[m.Type]++
		select {
		case handled <- struct{}{}:
		default:
		}
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	var senders sync.WaitGroup
	sent := make([]int, clients)
	var all []*duplex.Client
	for i := range clients {
		c := dial(t, address, udsipc.WithOverflow(udsipc.OverflowBlock))
		all = append(all, c)
		senders.Go(func() {
			for ; ctx.Err() == nil; sent[i]++ {
				data := append(fmt.Append(nil, sent[i], " "), make([]byte, sent[i]%3000)...)
				if err := c.Send(duplex.Message{Type: uint32(i), Data: data}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var last *duplex.Server
	for range restarts {
		s, err := duplex.NewServer(address, handler)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		<-handled
		if last = s; t.Failed() {
			break
		}
		ipctest.Stop(t, s)
	}
	last = serve(t, address, handler)
	cancel()
	senders.Wait()
	for _, c := range all {
		ipctest.Stop(t, c)
	}
	ipctest.Stop(t, last)
	for i, n := range sent {
		if next[uint32(i)] != n {
			t.Errorf("client %d: %d of %d messages were handled", i, next[uint32(i)], n)
		}
	}
}

// TestServer_SlowClient_BlocksNobody that reads nothing holds up nobody: its queue is full, and the others go on.
func TestServer_SlowClient_BlocksNobody(t *testing.T) {
	t.Parallel()
	for _, policy := range []udsipc.OverflowPolicy{
		udsipc.OverflowRefuse, udsipc.OverflowBlock, udsipc.OverflowDropOldest,
	} {
		t.Run(policy.String(), func(t *testing.T) { aSlowClient(t, policy) })
	}
}

func aSlowClient(t *testing.T, policy udsipc.OverflowPolicy) {
	address := ipctest.SocketPath(t)
	s := serve(t, address, echo, udsipc.WithMaxBufferedBytes(1<<20),
		udsipc.WithMaxMessageSize(1<<19), udsipc.WithOverflow(policy))
	slow, err := net.Dial("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	quick := dial(t, address)
	if err := quick.WaitConnected(t.Context()); err != nil {
		t.Fatal(err)
	}
	ipctest.Until(t, "both are there", func() bool {
		n := 0
		for range s.Conns() {
			n++
		}
		return n == 2
	})
	if policy == udsipc.OverflowDropOldest {
		aSlowClientMisses(t, s)
		return
	}
	full := false
	for n := 0; !full; n++ {
		reached, err := s.Broadcast(duplex.Message{Type: 1, Data: make([]byte, 100_000)})
		if reached < 1 {
			t.Fatalf("broadcast %d reached %d: %v", n, reached, err)
		}
		if full = err != nil; full && (!errors.Is(err, udsipc.ErrBufferFull) || reached != 1) {
			t.Fatalf("reached %d: %v", reached, err)
		}
		if m := receive(t, quick); m.Type != 1 || len(m.Data) != 100_000 {
			t.Fatalf("type %d, %d bytes", m.Type, len(m.Data))
		}
		if n > 1000 {
			t.Fatal("the queue is never full")
		}
	}
}

// aSlowClientMisses what is dropped, which is counted.
func aSlowClientMisses(t *testing.T, s *duplex.Server) {
	t.Helper()
	ipctest.Until(t, "messages are dropped", func() bool {
		if _, err := s.Broadcast(duplex.Message{Type: 1, Data: make([]byte, 100_000)}); err != nil {
			t.Fatal(err)
		}
		return s.Metrics().Dropped >= 10
	})
	var sum uint64
	for session := range s.Conns() {
		sum += session.Dropped()
	}
	if m := s.Metrics(); m.Dropped != sum {
		t.Errorf("%d messages were dropped, the sessions say %d", m.Dropped, sum)
	}
}

func TestServer_Conns_YieldsOpenConnections(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	s := serve(t, address, func(ctx context.Context, s *duplex.ServerConn, m duplex.Message) error {
		if string(m.Data) == "close" {
			return s.Close()
		}
		return s.Send(duplex.Message{Type: m.Type, Data: fmt.Append(nil, s.Peer().ID)})
	})
	one, two := dial(t, address), dial(t, address)
	ids := map[string]bool{}
	for _, c := range []*duplex.Client{one, two} {
		if err := c.Send(duplex.Message{Type: 7}); err != nil {
			t.Fatal(err)
		}
		ids[string(receive(t, c).Data)] = true
	}
	var session *duplex.ServerConn
	count := 0
	for session = range s.Conns() {
		count++
		if session.Context().Err() != nil || runtime.GOOS == "linux" && session.Peer().Credentials == nil {
			t.Errorf("%v", session.Peer())
		}
	}
	if count != 2 || len(ids) != 2 {
		t.Errorf("%d sessions, %v", count, ids)
	}
	if err := session.Close(); err != nil {
		t.Error(err)
	}
	<-session.Context().Done()
	if err := session.Send(duplex.Message{}); !errors.Is(err, udsipc.ErrConnectionClosed) {
		t.Error(err)
	}
	ipctest.Until(t, "it is gone, and its client is back", func() bool {
		n := 0
		for other := range s.Conns() {
			if other == session {
				return false
			}
			n++
		}
		return n == 2
	})
	if err := one.Send(duplex.Message{Data: []byte("close")}); err != nil { // From inside a handler.
		t.Fatal(err)
	}
	ipctest.Until(t, "its client has noticed", func() bool { return s.Metrics().Accepted == 4 })
}

// TestServer_HandlerFails_CostsOneMessage, and cost their message alone; what is no message costs the connection.
func TestServer_HandlerFails_CostsOneMessage(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	errs := make(chan error, 10)
	serve(t, address, func(_ context.Context, s *duplex.ServerConn, m duplex.Message) error {
		switch m.Type {
		case 1:
			return errors.New("mine")
		case 2:
			panic("oh")
		}
		return s.Send(m)
	}, udsipc.WithReaderErrorCallback(func(err error, _ string) { errs <- err }))
	c := dial(t, address)
	for kind := range uint32(4) {
		if err := c.Send(duplex.Message{Type: kind}); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []uint32{0, 3} {
		if m := receive(t, c); m.Type != want {
			t.Errorf("type %d, want %d", m.Type, want)
		}
	}
	for _, want := range []string{"mine", "duplex_test.go"} {
		if err := <-errs; !errors.Is(err, udsipc.ErrHandlerFailed) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	conn, err := udsipc.Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.WriteMessage([]byte{0xff}); err != nil {
		t.Fatal(err)
	}
	if err := <-errs; !errors.Is(err, duplex.ErrInvalidMessage) {
		t.Error(err)
	}
	if _, err := conn.ReadMessage(); err == nil {
		t.Error("the connection goes on")
	}
}

func TestClient_ServerAway_QueuesMessages(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	var states []udsipc.State
	c := dial(t, address, udsipc.WithMaxBufferedWrites(3),
		udsipc.WithStateCallback(func(s udsipc.State, _ error) { states = append(states, s) }))
	for n := range uint32(3) {
		if err := c.Send(duplex.Message{Type: n}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Send(duplex.Message{}); !errors.Is(err, udsipc.ErrBufferFull) {
		t.Error(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.Receive(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	serve(t, address, echo)
	for n := range uint32(3) {
		if m := receive(t, c); m.Type != n {
			t.Errorf("type %d, want %d", m.Type, n)
		}
	}
	if c.State() != udsipc.StateConnected {
		t.Error(c.State())
	}
	if _, ok := c.Peer(); !ok {
		t.Error("nobody")
	}
	ipctest.Stop(t, c)
	if _, err := c.Receive(t.Context()); !errors.Is(err, udsipc.ErrStopped) {
		t.Error(err)
	}
	want := []udsipc.State{udsipc.StateConnecting, udsipc.StateConnected, udsipc.StateStopped}
	if fmt.Sprint(states) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", states, want)
	}
}

// TestServer_StopHungHandler_ReturnsWithContext returns with its context, and the handler's ends.
func TestServer_StopHungHandler_ReturnsWithContext(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	entered := make(chan context.Context, 1)
	s, err := duplex.NewServer(address, func(ctx context.Context, _ *duplex.ServerConn, _ duplex.Message) error {
		entered <- ctx
		<-ctx.Done()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	c := dial(t, address)
	if err := c.Send(duplex.Message{}); err != nil {
		t.Fatal(err)
	}
	ctx := <-entered
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Stop(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	<-ctx.Done()
	ipctest.Stop(t, s) // Again.
	if err := s.Start(); !errors.Is(err, udsipc.ErrStopped) {
		t.Error(err)
	}
}

// TestClient_NoReceive_AppliesBackpressure the server once nobody receives, instead of filling the memory.
func TestClient_NoReceive_AppliesBackpressure(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	var sent atomic.Int64
	serve(t, address, func(_ context.Context, s *duplex.ServerConn, m duplex.Message) error {
		for s.Send(duplex.Message{Data: make([]byte, 100_000)}) == nil {
			sent.Add(1)
		}
		return nil
	}, udsipc.WithMaxBufferedBytes(1<<20), udsipc.WithMaxMessageSize(1<<19))
	c := dial(t, address)
	if err := c.Send(duplex.Message{}); err != nil {
		t.Fatal(err)
	}
	before := int64(-1)
	ipctest.Until(t, "nothing moves any more", func() bool {
		now := sent.Load()
		same := now == before && now > 0
		before = now
		time.Sleep(20 * time.Millisecond)
		return same
	})
	if n := sent.Load(); n > 300 {
		t.Errorf("%d messages of 100 kB were taken from a server whose client receives none", n)
	}
	receive(t, c)
	ipctest.Stop(t, c) // Although the handler of what comes waits for room.
}

func TestNew_BadArguments_AreErrors(t *testing.T) {
	t.Parallel()
	if _, err := duplex.NewServer("x", nil); !errors.Is(err, udsipc.ErrHandlerNil) {
		t.Error(err)
	}
	if _, err := duplex.NewHandlerClient("x", nil); !errors.Is(err, udsipc.ErrHandlerNil) {
		t.Error(err)
	}
	if _, err := duplex.NewServer("", echo); !errors.Is(err, udsipc.ErrInvalidSocketPath) {
		t.Error(err)
	}
	if _, err := duplex.NewClient("x", udsipc.WithAcknowledgements()); err == nil {
		t.Error("acknowledgements")
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range [][]byte{
		{}, {0}, {1, 2, 3}, {0x80, 0x01}, {0xff, 0xff, 0xff, 0xff, 0x0f},
		{0xff, 0xff, 0xff, 0xff, 0x10}, bytes.Repeat([]byte{0x80}, 20),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := duplex.Parse(b)
		if err != nil {
			if !errors.Is(err, duplex.ErrInvalidMessage) {
				t.Error(err)
			}
			return
		}
		again, err := duplex.Parse(duplex.Append(nil, m))
		if err != nil || again.Type != m.Type || !bytes.Equal(again.Data, m.Data) {
			t.Errorf("% x: %+v, again %+v, %v", b, m, again, err)
		}
	})
}

// TestServer_StopTCP_HandlesWhatWasSent: what was sent is handled, although the server still
// answers when the client closes.
func TestServer_StopTCP_HandlesWhatWasSent(t *testing.T) {
	t.Parallel()
	const messages = 5000
	var handled atomic.Int64
	s := serve(t, "tcp://127.0.0.1:0", func(_ context.Context, s *duplex.ServerConn, m duplex.Message) error {
		handled.Add(1)
		return s.Send(m)
	})
	c, err := duplex.NewHandlerClient("tcp://"+s.Addr().String(), func(duplex.Message) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for range messages {
		if err := c.Send(duplex.Message{Type: 1, Data: make([]byte, 500)}); err != nil {
			t.Fatal(err)
		}
	}
	ipctest.Stop(t, c)
	ipctest.Until(t, "all are handled", func() bool { return handled.Load() == messages })
}

// TestClient_HandlerPanics_CostsOneMessage, and cost their message alone.
func TestClient_HandlerPanics_CostsOneMessage(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	serve(t, address, echo)
	got, errs := make(chan uint32, 10), make(chan error, 10)
	c, err := duplex.NewHandlerClient(address, func(m duplex.Message) {
		if m.Type == 1 {
			panic("oh")
		}
		got <- m.Type
	}, udsipc.WithWriterErrorCallback(func(err error, _ string) { errs <- err }))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for kind := range uint32(3) {
		if err := c.Send(duplex.Message{Type: kind}); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []uint32{0, 2} {
		if kind := <-got; kind != want {
			t.Errorf("type %d, want %d", kind, want)
		}
	}
	if err := <-errs; !errors.Is(err, udsipc.ErrHandlerFailed) {
		t.Error(err)
	}
	ipctest.Stop(t, c)
}

// TestServer_HandlerGoexit_CostsOneMessage cost their message alone, and leave no connection behind.
func TestServer_HandlerGoexit_CostsOneMessage(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	errs := make(chan error, 10)
	s := serve(t, address, func(_ context.Context, s *duplex.ServerConn, m duplex.Message) error {
		if m.Type == 1 {
			runtime.Goexit()
		}
		return s.Send(m)
	}, udsipc.WithReaderErrorCallback(func(err error, _ string) { errs <- err }))
	c := dial(t, address)
	for kind := range uint32(3) {
		if err := c.Send(duplex.Message{Type: kind}); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []uint32{0, 2} {
		if m := receive(t, c); m.Type != want {
			t.Errorf("type %d, want %d", m.Type, want)
		}
	}
	if err := <-errs; !errors.Is(err, udsipc.ErrHandlerFailed) {
		t.Error(err)
	}
	ipctest.Stop(t, c)
	ipctest.Until(t, "its connection is gone", func() bool { return s.Metrics().Connections == 0 })
}

// TestServerConn_PauseReading_HoldsNoMemory reads nothing more, and holds no read memory, until it is let go on.
func TestServerConn_PauseReading_HoldsNoMemory(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	const messages = 20
	ready, handled := make(chan struct{}), make(chan uint32, messages)
	s := serve(t, address, func(_ context.Context, s *duplex.ServerConn, m duplex.Message) error {
		if m.Type == 0 {
			seam.OfSession(s).PauseReading(ready)
		}
		handled <- m.Type
		return nil
	})
	c := dial(t, address)
	for kind := range uint32(messages) {
		if err := c.Send(duplex.Message{Type: kind, Data: make([]byte, 100_000)}); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-handled; got != 0 {
		t.Errorf("message %d came first", got)
	}
	ipctest.Until(t, "no read memory is held", func() bool { return s.Metrics().ReadMemory == 0 })
	if n := s.Metrics().Received; n != 1 {
		t.Errorf("%d messages were read", n)
	}
	close(ready)
	for kind := range uint32(messages - 1) {
		if got := <-handled; got != kind+1 {
			t.Errorf("message %d, want %d", got, kind+1)
		}
	}
}
