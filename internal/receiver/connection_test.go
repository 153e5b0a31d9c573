// SPDX-License-Identifier: Apache-2.0

package receiver

// How a connection is admitted, authenticated, and removed.

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/peercred"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// TestAdmit_OverLimit_IsClosedGracefully: its peer is told why, and what it has sent is handled.
func TestAdmit_OverLimit_IsClosedGracefully(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serverOf(t, Config{MaxConnections: 1}, accepts)
		first := s.dial()
		synctest.Wait()
		over := s.dial()
		s.hears(over, "\x00")
		s.sends(over, "a")
		_ = over.CloseWrite()
		s.hears(over, string(wire.CloseReport{Reason: wire.CloseFull, FirstUnread: 2, Limit: 100}.Append(nil)))
		s.hearsEnd(over)
		s.noted("accept connection 2: udsipc: too many connections: 1 are open", "1 a false")
		s.counted(Counts{Accepted: 2, Refused: 1, Received: 1, Open: 1})
		first.Close()
		synctest.Wait()
		s.sends(s.dial(), "b")
		s.noted("1 b false")
		s.counted(Counts{Accepted: 3, Refused: 1, Received: 2, Open: 1})
	})
}

// TestAuthenticate_Authorizer_Decides before a byte is read; its peer is told.
func TestAuthenticate_Authorizer_Decides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serverOf(t, Config{Authorizer: func(from *transport.Peer) error {
			if from.ID == 1 {
				return errors.New("no")
			}
			return nil
		}}, accepts)
		conn := s.dial()
		began := time.Now()
		s.hearsReport(conn, wire.CloseReport{Reason: wire.CloseUnauthorized, FirstUnread: 1, Limit: 100})
		s.hearsEnd(conn)
		if took := time.Since(began); took != 0 {
			t.Errorf("it is closed after %v", took)
		}
		s.noted("authorize connection 1: udsipc: peer is not authorized: no")
		s.sends(s.dial(), "a")
		s.noted("1 a false")
		s.counted(Counts{Accepted: 2, Unauthorized: 1, Received: 1, Open: 1})
	})
}

// connectionOf returns a connection of a server, with its stream, that nobody serves.
func (s *testServer) connectionOf(conn net.Conn) *stream {
	c := &connection{server: s.Server, in: transport.NewIn(conn, s.cfg.In, plenty{}),
		peer: transport.Peer{ID: 1, Addr: conn.RemoteAddr()}}
	m := newStream(c, nil)
	c.service = m
	return m
}

// TestAuthenticate_CredentialsUnknown_IsRejected: an authorizer is not asked about a peer that nobody knows.
func TestAuthenticate_CredentialsUnknown_IsRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := false
		s := newServerOf(t, Config{Authorizer: func(*transport.Peer) error { asked = true; return nil }}, accepts)
		near, far := newTwoWayPipe()
		defer far.Close()
		c := s.connectionOf(near)
		c.credentialsErr = errors.New("no such process")
		result := make(chan bool, 1)
		go func() { result <- c.authenticate() }() // Ends with its steps.
		s.hearsReport(far, wire.CloseReport{Reason: wire.CloseUnauthorized, FirstUnread: 1, Limit: 100})
		if <-result || asked {
			t.Errorf("it is authorized, asked %v", asked)
		}
		s.noted("authorize connection 1: udsipc: peer is not authorized: the peer cannot be identified: no such process")

		s.cfg.Authorizer = nil // Then nobody needs to know.
		c = s.connectionOf(near)
		c.credentialsErr = errors.New("no such process")
		if !c.authenticate() {
			t.Error("it is not authorized")
		}
	})
}

// TestAuthenticate_PlainPeerOfTLS_IsTold, and a silent one is closed in time.
func TestAuthenticate_PlainPeerOfTLS_IsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serverOf(t, Config{TLS: &tls.Config{MinVersion: tls.VersionTLS13}, HandshakeTimeout: 10 * time.Second}, accepts)
		conn := s.dial()
		s.writes(conn, []byte("\x05hello\x05hello"))
		s.hearsReport(conn, wire.CloseReport{Reason: wire.CloseNotTLS, FirstUnread: 1, Limit: 100})
		s.hearsEnd(conn)
		synctest.Wait()
		s.mu.Lock()
		if len(s.events) != 1 || !strings.HasPrefix(s.events[0], "handshake connection 1: udsipc: TLS handshake failed: ") {
			t.Errorf("%q", s.events)
		}
		s.mu.Unlock()
		began := time.Now()
		silent := s.dial()
		s.hears(silent, "\x00")
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("a silent one ends after %v", took)
		}
		silent.Close()
		s.counted(Counts{Accepted: 2, HandshakeErrors: 2})
	})
}

// TestRemove_Connection_GivesEverythingBack: its counters are kept, its place is free, and those who wait are told.
func TestRemove_Connection_GivesEverythingBack(t *testing.T) {
	for _, handingOver := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			memory := &countedMemory{}
			s := newServerOf(t, Config{}, accepts)
			near, far := newTwoWayPipe()
			defer far.Close()
			s.cfg.ReadMemory = memory
			c := s.connectionOf(near)
			c.in = transport.NewIn(near, s.cfg.In, memory)
			s.wg.Add(1)
			_ = s.conns.addLocked(c.connection)
			s.handingOver = handingOver
			c.in.RefuseHandOver(errors.New("too late"))
			go far.Write([]byte("\x09a")) // Ends with its steps.
			if err := c.in.Fill(); err != nil {
				t.Fatal(err)
			}
			go s.remove(c.connection) // Ends with its steps.
			s.wg.Wait()
			if len(s.conns.all) != 0 || len(s.store.pauseChanged) != 1 || len(s.conns.connEnded) != 1 ||
				s.counts.read.ReceivedBytes != 2 || memory.released == 0 {
				t.Errorf("%d are open, %d, %d, %+v, %d released", len(s.conns.all), len(s.store.pauseChanged),
					len(s.conns.connEnded), s.counts.read, memory.released)
			}
			if handingOver {
				s.noted("hand over connection 1: too late")
			} else {
				s.noted()
			}
			s.handingOver = false
		})
	}
}

// countedMemory counts releases.
type countedMemory struct {
	plenty
	released int
}

func (m *countedMemory) Release(*transport.Reservation, int64) { m.released++ }

// TestAdmit_DuringStop_EndsAtOnce: a connection that is admitted while the others are being closed is closed as
// they are.
func TestAdmit_DuringStop_EndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServerOf(t, Config{}, accepts)
		near, far := newTwoWayPipe()
		s.closing = true
		s.admit(near, nil)
		s.hears(far, "\x00")
		_ = far.CloseWrite()
		s.hears(far, string(wire.CloseReport{FirstUnread: 1, Limit: 100}.Append(nil)))
		s.hearsEnd(far)
		s.forced = true
		near, far = newTwoWayPipe()
		began := time.Now()
		s.admit(near, nil)
		s.hearsReport(far, wire.CloseReport{FirstUnread: 1, Limit: 100})
		s.hearsEnd(far)
		if took := time.Since(began); took != 0 {
			t.Errorf("after a forced stop it ends after %v", took)
		}
		s.counted(Counts{Accepted: 2})
	})
}

// TestAdmit_User_CountsAgainstLimit: each user has a limit of its own.
func TestAdmit_User_CountsAgainstLimit(t *testing.T) {
	s := New(Config{MaxConnections: 9, MaxConnectionsPerUser: 1})
	c := &connection{user: (&transport.Peer{Credentials: &peercred.Credentials{UID: 7}}).Identity()}
	if err := s.conns.addLocked(c); err != nil {
		t.Fatal(err)
	}
	if err := s.conns.addLocked(&connection{user: "uid 7"}); !errors.Is(err, errdefs.ErrTooManyConnections) {
		t.Error(err)
	}
}
