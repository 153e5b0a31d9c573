// SPDX-License-Identifier: Apache-2.0

package receiver

// What a server does with the connections and writer states that an earlier process has left.

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/systemd"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// inherits starts a server that has inherited a connection, and returns the writer's end.
func inherits(t *testing.T, cfg Config, kind string, session *wire.SessionSnapshot,
	handle func(string, bool) error) (*testServer, *twoWayPipe) {
	t.Helper()
	s := newServerOf(t, cfg, handle)
	near, far := newTwoWayPipe()
	t.Cleanup(func() { far.Close() })
	s.acceptor.inherited = &inheritedState{conns: []inheritedConn{{conn: near, kind: kind, session: session}}}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return s, far
}

// leftSession is a session as an earlier process has left it.
func leftSession() *wire.SessionSnapshot {
	return &wire.SessionSnapshot{
		Writer: wire.WriterSnapshot{Key: wire.WriterKey{Writer: wire.WriterID{1}}, Epoch: 3, Handled: 5,
			MaybeHandledThrough: 6},
		Limit: 100,
	}
}

// TestInherit_PlainConnection_GoesOn: its report counts from where this process began.
func TestInherit_PlainConnection_GoesOn(t *testing.T) {
	for kind, report := range map[string]wire.CloseReport{
		systemd.StorePlain:  {Limit: 100},
		systemd.StoreUnread: {FirstUnread: 2, Limit: 100},
	} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, conn := inherits(t, Config{}, kind, nil, accepts)
				s.sends(conn, "a")
				_ = conn.CloseWrite()
				s.hearsReport(conn, report)
				s.hearsEnd(conn)
				s.noted("1 a false")
				s.counted(Counts{Accepted: 1, Inherited: 1, Received: 1})
			})
		})
	}
}

// TestInherit_Session_GoesOn with its numbers, without a new handshake.
func TestInherit_Session_GoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := leftSession()
		left.HeartbeatInterval, left.HeartbeatTimeout = time.Second, 3*time.Second
		s, conn := inherits(t, Config{}, systemd.StoreSession, left, accepts)
		s.writes(conn, []byte("\x01a\x01b"))
		s.hears(conn, "\x07")
		began := time.Now()
		s.hears(conn, string(wire.Heartbeat))
		if took := time.Since(began); took != time.Second {
			t.Errorf("the heartbeat comes after %v", took)
		}
		_, _ = io.Copy(io.Discard, conn)
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("the silent writer is ended after %v", took)
		}
		s.noted("6 a true", "7 b false", "read connection 1: udsipc: heartbeat timeout: nothing came for 3s")
		s.counted(Counts{Accepted: 1, Inherited: 1, Received: 2, Redelivered: 1, Acknowledged: 2, Sessions: 1,
			WriterStates: 1})
		next := s.dial()
		s.opens(next, wire.Hello{Writer: wire.WriterID{1}, Epoch: 4, FirstSeq: 8, LastSentSeq: 7},
			wire.Welcome{Handled: 7, Limit: 100})
	})
}

// TestInherit_Failures_Count: the message that has failed in the earlier process has fewer attempts left.
func TestInherit_Failures_Count(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := leftSession()
		left.Writer.Failures = 2
		s, conn := inherits(t, Config{MaxRedeliveries: 2}, systemd.StoreSession, left, refuses)
		s.sends(conn, "a")
		s.hears(conn, "\x06")
		s.noted("6 a true", handlerFailed+"no", "handle connection 1: message 6 of writer "+left.Writer.Key.Writer.String()+
			" is a dead letter after 2 redeliveries", "dead 6 a: no")
	})
}

// TestInherit_SmallerLimit_EndsSession gracefully: the welcome of the next one has the limit of this process.
func TestInherit_SmallerLimit_EndsSession(t *testing.T) {
	for _, limit := range []uint64{100, 101} {
		synctest.Test(t, func(t *testing.T) {
			left := leftSession()
			left.Limit = limit
			s, conn := inherits(t, Config{}, systemd.StoreSession, left, accepts)
			if limit > 100 {
				s.hears(conn, "\x00")
			}
			s.sends(conn, "a")
			s.hears(conn, "\x06")
			s.noted("6 a true")
		})
	}
}

// TestInherit_SessionUnknown_IsClosed: its writer connects again and retransmits.
func TestInherit_SessionUnknown_IsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, conn := inherits(t, Config{}, systemd.StoreSession, nil, accepts)
		s.hearsEnd(conn)
		s.noted("hand over x: udsipc: malformed hand-over state: no entry for a session; connection closed")
		s.counted(Counts{})
	})
}

// TestInherit_OtherIdentity_EndsSession: the state of a writer belongs to its user.
func TestInherit_OtherIdentity_EndsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := leftSession()
		left.Writer.Key.Identity = "uid 7"
		s, conn := inherits(t, Config{}, systemd.StoreSession, left, accepts)
		s.hearsEnd(conn)
		s.noted("open session connection 1: udsipc: invalid session: old epoch: writer " + left.Writer.Key.Writer.String() +
			" has connected again, or is another one now")
		s.counted(Counts{Accepted: 1, Inherited: 1})
	})
}

// TestInherit_Unauthorized_KeepsState: what was handled stays known for the next connection.
func TestInherit_Unauthorized_KeepsState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, conn := inherits(t, Config{Authorizer: func(from *transport.Peer) error {
			if from.ID == 1 {
				return errors.New("no")
			}
			return nil
		}}, systemd.StoreSession, leftSession(), accepts)
		s.hearsReport(conn, wire.CloseReport{Reason: wire.CloseUnauthorized, Limit: 100})
		s.hearsEnd(conn)
		s.opens(s.dial(), wire.Hello{Writer: wire.WriterID{1}, Epoch: 4, FirstSeq: 6, LastSentSeq: 8},
			wire.Welcome{Handled: 5, Limit: 100})
		s.noted("authorize connection 1: udsipc: peer is not authorized: no")
	})
}

// TestInherit_Fenced_Ends: a newer connection of the writer takes the state over.
func TestInherit_Fenced_Ends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, conn := inherits(t, Config{}, systemd.StoreSession, leftSession(), accepts)
		s.sends(conn, "a")
		s.hears(conn, "\x06")
		s.opens(s.dial(), wire.Hello{Writer: wire.WriterID{1}, Epoch: 4, FirstSeq: 6, LastSentSeq: 8},
			wire.Welcome{Handled: 6, Limit: 100})
		s.hearsEnd(conn)
		s.counted(Counts{Accepted: 2, Inherited: 1, Received: 1, Redelivered: 1, Duplicates: 1, Acknowledged: 1, Sessions: 2,
			Open: 1, WriterStates: 1})
	})
}

// TestInherit_Errors_AreReported, and the states of writers that were not connected are known.
func TestInherit_Errors_AreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServerOf(t, Config{}, accepts)
		s.acceptor.inherited = &inheritedState{errs: []error{errAccept},
			state: wire.HandOverState{Writers: []wire.WriterSnapshot{leftSession().Writer}}}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		s.opens(s.dial(), wire.Hello{Writer: wire.WriterID{1}, Epoch: 4, FirstSeq: 6, LastSentSeq: 8},
			wire.Welcome{Handled: 5, Limit: 100})
		s.noted("hand over x: no")
	})
}

// TestInherit_OtherListener_IsEmptied: what waits in a listener that is of no use any more is served before it
// is closed.
func TestInherit_OtherListener_IsEmptied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServerOf(t, Config{}, accepts)
		l := newWakingListener(2)
		near, conn := newTwoWayPipe()
		l.conns <- near
		s.acceptor.inherited = &inheritedState{unusedListener: l}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		s.sends(conn, "a")
		time.Sleep(2 * backlogWait)
		if _, err := l.Accept(); err == nil {
			t.Error("the listener is open")
		}
		s.noted("hand over x: the listener at /pipe is not the one of x any more, and is closed", "1 a false")
		s.sends(s.dial(), "b")
		s.noted("1 b false")
		s.counted(Counts{Accepted: 2, Received: 2, Open: 2})
		s.serveBacklog(newPipeListener()) // One without a deadline is closed at once.
	})
}
