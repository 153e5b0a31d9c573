// SPDX-License-Identifier: Apache-2.0

package receiver

// How a server gets its listener, and how it empties that before it closes it, over real sockets.

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/socket"
	"github.com/udsipc/udsipc/internal/systemd"
	"github.com/udsipc/udsipc/internal/transport"
)

func TestListen_Errors_NameTheStep(t *testing.T) {
	dir := shortDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(what, op string, s *testServer) {
		t.Helper()
		var failure *errdefs.Error
		if err := s.Start(); !errors.As(err, &failure) || failure.Op != op || failure.Addr != "x" || s.Addr() != nil {
			t.Errorf("%s: %v, listens at %v, want the operation %q", what, err, s.Addr(), op)
		}
	}
	check("a file in its place", errdefs.OpListen, socketServer(t, file, Config{}, accepts))
	t.Setenv("LISTEN_PID", "x")
	t.Setenv("LISTEN_FDS", "1")
	check("bad variables", errdefs.OpActivate, socketServer(t, filepath.Join(dir, "s"), Config{}, accepts))
	s := socketServer(t, filepath.Join(dir, "s"), Config{WithoutSystemd: true}, accepts)
	if err := s.Start(); err != nil {
		t.Errorf("bad variables that nobody reads: %v", err)
	}
	again := socketServer(t, filepath.Join(dir, "s"), Config{WithoutSystemd: true}, accepts)
	check("in use", errdefs.OpListen, again)
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := again.Start(); err != nil {
		t.Errorf("Start after an error: %v", err)
	}
}

// TestCheckPassed_Rejected_IsGivenBack: a passed listener whose messages could be read on the way is not used.
func TestCheckPassed_Rejected_IsGivenBack(t *testing.T) {
	for _, want := range []error{nil, errAccept} {
		l := newPipeListener()
		s := newServerOf(t, Config{CheckPassed: func(at net.Addr) error {
			if at.String() != "/pipe" {
				t.Errorf("asked about %v", at)
			}
			return want
		}}, accepts)
		a := &s.acceptor
		if err := a.checkPassedLocked(); err != nil {
			t.Errorf("without one: %v", err)
		}
		a.listener, a.passed = l, &systemd.Passed{}
		err := a.checkPassedLocked()
		closed := false
		select {
		case <-l.ended:
			closed = true
		default:
		}
		if err != want || closed != (want != nil) || (a.listener == nil) != closed || (a.passed == nil) != closed {
			t.Errorf("%v, closed %v, %v, %v", err, closed, a.listener, a.passed)
		}
	}
}

// TestStop_Backlog_IsServed: whoever has connected before the stop is served, and nobody comes after it.
func TestStop_Backlog_IsServed(t *testing.T) {
	filters := canFilter(t)
	for _, network := range []string{"unix", "tcp", "unix, given", "tcp, given"} {
		t.Run(network, func(t *testing.T) {
			s := socketServer(t, filepath.Join(shortDir(t), "s"), Config{MaxConnections: 1}, accepts)
			kind, given := strings.CutSuffix(network, ", given")
			if kind == "tcp" {
				s.cfg.Socket = specOf(t, "tcp://127.0.0.1:0")
			}
			if given {
				listener, _, err := socket.Listen(s.cfg.Socket)
				if err != nil {
					t.Fatal(err)
				}
				s.cfg.Listener = listener
			}
			busy, release := make(chan struct{}), make(chan struct{})
			report := s.cfg.Report
			s.cfg.Report = func(op, addr string, err error) {
				report(op, addr, err)
				if errors.Is(err, errdefs.ErrTooManyConnections) && s.Snapshot().Accepted == 2 {
					close(busy)
					<-release
				}
			}
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
			dial := func() net.Conn {
				conn, err := net.Dial(kind, s.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				return conn
			}
			first := dial()
			await(t, "it is there", func() bool { return s.Snapshot().Open == 1 })
			over := dial()
			<-busy // The accept loop is.
			over.Close()
			first.Close()
			await(t, "the first one is gone", func() bool { return s.Snapshot().Open == 1 }) // The other is not served yet.
			var waiting []net.Conn
			for range 3 {
				conn := dial()
				s.sends(conn, "a")
				_ = conn.(interface{ CloseWrite() error }).CloseWrite()
				waiting = append(waiting, conn)
			}
			stopped := make(chan error, 1)
			go func() { stopped <- s.Stop(t.Context()) }() // Ends with the server.
			await(t, "it stops", s.IsStopping)
			time.Sleep(2 * backlogWait) // The deadline of the listener passes.
			close(release)
			if err := <-stopped; err != nil {
				t.Error(err)
			}
			if got := s.Snapshot(); got.Received != 3 || got.Accepted != 5 {
				t.Errorf("%+v", got)
			}
			for _, conn := range waiting {
				if b := make([]byte, 1); readByte(conn, b) != nil {
					t.Error("a connection of the backlog is cut")
				}
			}
			if !given && s.acceptor.halfClosed != (kind == "unix") || s.acceptor.filtered != (kind == "tcp" && filters) {
				t.Errorf("half-closed %v, filtered %v", s.acceptor.halfClosed, s.acceptor.filtered)
			}
		})
	}
}

// canFilter reports whether the kernel lets this user filter connection requests. Some let only root.
func canFilter(t *testing.T) bool {
	config := net.ListenConfig{}
	config.SetMultipathTCP(false)
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return socket.FilterNewConnections(listener.(*net.TCPListener))
}

// readByte reads a byte of what a server says in the end.
func readByte(conn net.Conn, b []byte) error {
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, err := conn.Read(b)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// TestNotify_StartAndStop_AreSaidOnce, and why a server ends by itself.
func TestNotify_StartAndStop_AreSaidOnce(t *testing.T) {
	m := newManager(t)
	s := socketServer(t, filepath.Join(shortDir(t), "s"), Config{}, accepts)
	for range 2 {
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
	}
	m.hears("READY=1")
	for range 2 {
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		m.hears("READY=1", "STOPPING=1")
	}
	l := newPipeListener()
	failing := newServerOf(t, Config{Listener: l}, accepts)
	if err := failing.Start(); err != nil {
		t.Fatal(err)
	}
	l.Close()
	<-failing.Finished()
	if err := failing.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	m.hears("READY=1", "STOPPING=1", "READY=1",
		"STATUS=giving up after 1 errors in a row: use of closed network connection", "STOPPING=1")
}

// TestAdmit_CredentialsUnreadable_IsUnauthorized: an authorizer is not asked about a peer that cannot be identified.
func TestAdmit_CredentialsUnreadable_IsUnauthorized(t *testing.T) {
	s := newServerOf(t, Config{Authorizer: func(*transport.Peer) error { t.Error("it is asked"); return nil }}, accepts)
	near, _ := connected(t)
	conn, err := net.FileConn(near)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	s.admit(conn, nil)
	s.wg.Wait()
	if got := s.Snapshot(); got.Unauthorized != 1 || got.Accepted != 1 {
		t.Errorf("%+v", got)
	}
}
