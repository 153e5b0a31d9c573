// SPDX-License-Identifier: Apache-2.0

package receiver

// This file is a server whose writers the test plays, over connections in memory, with a fake clock.

import (
	"context"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// A pipeListener accepts connections in memory.
type pipeListener struct {
	conns chan net.Conn
	once  sync.Once
	ended chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), ended: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.ended) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "/pipe", Net: "unix"} }

// A twoWayPipe is a connection in memory that can be half-closed.
type twoWayPipe struct {
	net.Conn // Reads.
	out      net.Conn
}

func newTwoWayPipe() (near, far *twoWayPipe) {
	nearIn, farOut := net.Pipe()
	farIn, nearOut := net.Pipe()
	return &twoWayPipe{nearIn, nearOut}, &twoWayPipe{farIn, farOut}
}

func (p *twoWayPipe) Write(b []byte) (int, error) { return p.out.Write(b) }
func (p *twoWayPipe) CloseWrite() error           { return p.out.Close() }
func (p *twoWayPipe) Close() error                { _ = p.out.Close(); return p.Conn.Close() }
func (p *twoWayPipe) SetWriteDeadline(deadline time.Time) error {
	return p.out.SetWriteDeadline(deadline)
}

// SetReadDeadline is no error after the peer has ended, unlike that of net.Pipe: what the peer has sent is read
// to the end.
func (p *twoWayPipe) SetReadDeadline(deadline time.Time) error {
	_ = p.Conn.SetReadDeadline(deadline)
	return nil
}

// A testServer is a server that notes what it hands over and reports.
type testServer struct {
	*Server
	*testing.T
	listener *pipeListener
	mu       sync.Mutex // Guards what follows.
	events   []string
}

// serverOf must be called in a bubble. handle is asked what becomes of a message; without it, cfg has the handler.
func serverOf(t *testing.T, cfg Config, handle func(text string, redelivered bool) error) *testServer {
	t.Helper()
	s := newServerOf(t, cfg, handle)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// newServerOf is serverOf for a server that the test starts.
func newServerOf(t *testing.T, cfg Config, handle func(text string, redelivered bool) error) *testServer {
	t.Helper()
	s := &testServer{T: t, listener: newPipeListener()}
	if cfg.Listener == nil {
		cfg.Listener = s.listener
	}
	cfg.AddrText, cfg.ReadMemory = "x", plenty{}
	for limit, usual := range map[*int]int{&cfg.MaxAcceptErrors: 10, &cfg.MaxWriterStates: 10, &cfg.MaxConnections: 10,
		&cfg.MaxConnectionsPerUser: 10} {
		if *limit == 0 {
			*limit = usual
		}
	}
	cfg.WriterRetention = time.Hour
	if cfg.In.MaxMessageSize == 0 {
		cfg.In.MaxMessageSize = 100
	}
	if cfg.In.ReadSize == 0 {
		cfg.In.ReadSize = 4096
	}
	cfg.Report = func(op, addr string, err error) {
		text, _, _ := strings.Cut(err.Error(), "\n") // Without a stack.
		s.note(op + " " + strings.TrimSuffix(strings.TrimPrefix(addr, "x, "), " from pipe") + ": " + text)
	}
	if handle != nil {
		cfg.Open = s.sinkOf(handle)
	}
	s.Server = New(cfg)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Stop(ctx)
		s.wg.Wait() // For handlers too.
	})
	return s
}

// sinkOf returns an Open function whose sinks note what they get.
func (s *testServer) sinkOf(handle func(text string, redelivered bool) error) func(*transport.Peer) Sink {
	return func(*transport.Peer) Sink {
		return Sink{
			Message: func(_ context.Context, data []byte, seq uint64, redelivered bool) error {
				s.note(fmt.Sprintf("%d %s %v", seq, data, redelivered))
				return handle(string(data), redelivered)
			},
			DeadLetter: func(data []byte, seq uint64, err error) { s.note(fmt.Sprintf("dead %d %s: %v", seq, data, err)) },
		}
	}
}

func (s *testServer) note(event string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, regexp.MustCompile(` \(.*`).ReplaceAllString(event, ""))
}

// noted wants these events since the last call.
func (s *testServer) noted(want ...string) {
	s.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.events, want) {
		s.Errorf("noted are\n%q, want\n%q", s.events, want)
	}
	s.events = nil
}

// counted wants these counters. Reads and Errors, of which there may be any number, are not compared.
func (s *testServer) counted(want Counts) {
	s.Helper()
	synctest.Wait()
	got := s.Snapshot()
	got.Reads, got.Errors, got.ReceivedBytes = want.Reads, want.Errors, want.ReceivedBytes
	if got != want {
		s.Errorf("counted are\n%+v, want\n%+v", got, want)
	}
}

// dial returns the writer's end of a new connection.
func (s *testServer) dial() *twoWayPipe {
	near, far := newTwoWayPipe()
	s.Cleanup(func() { far.Close() })
	s.listener.conns <- near
	return far
}

// sends writes messages.
func (s *testServer) sends(conn net.Conn, messages ...string) {
	s.Helper()
	for _, message := range messages {
		s.writes(conn, wire.AppendFrame(nil, []byte(message)))
	}
}

// writes writes bytes.
func (s *testServer) writes(conn net.Conn, b []byte) {
	s.Helper()
	_ = conn.SetWriteDeadline(time.Now().Add(time.Hour))
	if _, err := conn.Write(b); err != nil {
		s.Fatal(err)
	}
}

// opens opens a session with a hello, which is to be welcome.
func (s *testServer) opens(conn net.Conn, hello wire.Hello, welcome wire.Welcome) {
	s.Helper()
	s.writes(conn, hello.Append(nil))
	s.hears(conn, string(welcome.Append(nil)))
}

// hears wants the server to say this next.
func (s *testServer) hears(conn net.Conn, want string) {
	s.Helper()
	got := make([]byte, len(want))
	_ = conn.SetReadDeadline(time.Now().Add(time.Hour))
	if n, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		s.Fatalf("it says % x, %v, want % x", got[:n], err, want)
	}
}

// hearsReport wants the server to say this report next, after a goodbye.
func (s *testServer) hearsReport(conn net.Conn, want wire.CloseReport) {
	s.Helper()
	s.hears(conn, "\x00"+string(want.Append(nil)))
}

// hearsEnd wants the server to say no more and to close.
func (s *testServer) hearsEnd(conn net.Conn) {
	s.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(time.Hour))
	if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
		s.Errorf("it says % x, %v, want the end", rest, err)
	}
}

// stops begins a graceful stop, whose error comes over the channel.
func (s *testServer) stops() <-chan error { return s.stopsWithin(1000 * time.Hour) }

// stopsWithin begins a stop that is forced after some time.
func (s *testServer) stopsWithin(limit time.Duration) <-chan error {
	stopped := make(chan error, 1)
	go func() { // Ends with the server.
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		stopped <- s.Stop(ctx)
	}()
	synctest.Wait()
	return stopped
}

func accepts(string, bool) error { return nil }
