// SPDX-License-Identifier: Apache-2.0

package duplex_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/seam"
)

// TestServer_OnStop_AcceptsEarlyReply: a client's answer to the word of the end counts as soon as that was sent.
func TestServer_OnStop_AcceptsEarlyReply(t *testing.T) {
	t.Parallel()
	const end, answer = 1, 2
	address, answered := ipctest.SocketPath(t), make(chan struct{})
	s, err := duplex.NewServer(address, func(_ context.Context, s *duplex.ServerConn, m duplex.Message) error {
		if m.Type == answer {
			seam.OfSession(s).Finish()
			close(answered)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	seam.OfServer(s).(seam.Server[*duplex.ServerConn]).OnStop(func(s *duplex.ServerConn) {
		if err := s.Send(duplex.Message{Type: end}); err != nil {
			t.Error(err)
		}
		<-answered // As if this goroutine were interrupted here.
	})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	var c *duplex.Client
	c, err = duplex.NewHandlerClient(address, func(m duplex.Message) {
		_ = c.Send(duplex.Message{Type: answer})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer ipctest.Stop(t, c)
	sessionsAre(t, s, 1)
	began := time.Now()
	ipctest.Stop(t, s)
	if took := time.Since(began); took > 900*time.Millisecond { // One that does not answer is waited for for a second.
		t.Errorf("the client has answered, and Stop took %v", took)
	}
}

// sessionsAre waits until the server has so many.
func sessionsAre(tb testing.TB, s *duplex.Server, n int) {
	tb.Helper()
	ipctest.Until(tb, "the sessions are there", func() bool {
		have := 0
		for range s.Conns() {
			have++
		}
		return have == n
	})
}

// TestServer_StopSlowClient_ReportsUnsent to a client that takes nothing and is left.
func TestServer_StopSlowClient_ReportsUnsent(t *testing.T) {
	t.Parallel()
	address, reports := ipctest.SocketPath(t), make(chan error, 10)
	s := serve(t, address, echo, udsipc.WithStallTimeout(300*time.Millisecond),
		udsipc.WithReaderErrorCallback(func(err error, _ string) { reports <- err }))
	idle, err := net.Dial("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	sessionsAre(t, s, 1)
	for range 50 {
		if _, err := s.Broadcast(duplex.Message{Type: 1, Data: make([]byte, 100_000)}); err != nil {
			break // On a busy machine the client is left before Stop.
		}
	}
	ipctest.Stop(t, s)
	err = ipctest.Await(t, "a report", reports)
	op := (*udsipc.OpError)(nil)
	early := errors.As(err, &op) && op.Op == udsipc.OpRead
	if !errors.Is(err, udsipc.ErrBackpressure) || !early && !strings.Contains(err.Error(), " not sent within ") {
		t.Errorf("reported: %v", err)
	}
}

// TestServer_ForcedStop_ClosesNewClients: whom the Listener lets in once Stop has given up is sent away as well.
func TestServer_ForcedStop_ClosesNewClients(t *testing.T) {
	t.Parallel()
	const clients = 20
	address := ipctest.SocketPath(t)
	asked, answer := make(chan struct{}, clients), make(chan struct{})
	s, err := duplex.NewServer(address, echo, udsipc.WithAuthorizer(func(udsipc.Peer) error {
		asked <- struct{}{}
		<-answer
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	conns := make([]net.Conn, clients)
	for i := range conns {
		if conns[i], err = net.Dial("unix", address); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
		<-asked
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Stop(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Stop: %v", err)
	}
	close(answer)
	for _, conn := range conns {
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("a connection is open after Stop")
		}
	}
}
