// SPDX-License-Identifier: Apache-2.0

package receiver

// How the connection of a stream ends: what its peer is told, what is reported, and what is counted.

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

func TestStream_PeerEnds_IsAccountedFor(t *testing.T) {
	for name, test := range map[string]struct {
		sent      string
		truncated uint64
		event     string
	}{
		"nothing":   {"", 0, ""},
		"a message": {"\x01a", 0, ""},
		"half a message": {"\x01a\x03bc", 1,
			"read connection 1: udsipc: connection closed in the middle of a message, after 3 bytes of it: EOF"},
		"half a prefix": {"\x01a\x80", 1,
			"read connection 1: udsipc: connection closed in the middle of a message, after 1 bytes of it: EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serverOf(t, Config{}, accepts)
				conn := s.dial()
				want := Counts{Accepted: 1, Truncated: test.truncated}
				var events []string
				if test.sent != "" {
					s.writes(conn, []byte(test.sent))
					want.Received = 1
					events = append(events, "1 a false")
				}
				_ = conn.CloseWrite()
				s.hearsReport(conn, wire.CloseReport{FirstUnread: want.Received + 1, Limit: 100})
				s.hearsEnd(conn)
				if test.event != "" {
					events = append(events, test.event)
				}
				s.noted(events...)
				s.counted(want)
			})
		})
	}
}

// A failingConn reads some bytes, and then fails.
type failingConn struct {
	net.Conn
	sent string
	err  error
}

func (c *failingConn) Read(b []byte) (int, error) {
	if c.sent == "" {
		return 0, c.err
	}
	n := copy(b, c.sent)
	c.sent = c.sent[n:]
	return n, nil
}

func TestStream_ReadFails_ReportsUnusualErrors(t *testing.T) {
	middle := "read connection 1: udsipc: connection closed in the middle of a message, after 2 bytes of it: "
	for name, test := range map[string]struct {
		sent      string
		err       error
		event     string
		truncated uint64
	}{
		"reset":                 {"\x01a", syscall.ECONNRESET, "", 0},
		"closed pipe":           {"\x01a", io.ErrClosedPipe, "", 0},
		"closed here":           {"\x01a", net.ErrClosed, "", 0},
		"closed in a message":   {"\x01a\x05b", net.ErrClosed, "", 0},
		"ended in a message":    {"\x01a\x05b", transport.ErrGracefulEnd, "", 0},
		"another":               {"\x01a", errors.New("broken"), "read connection 1: broken", 0},
		"cut":                   {"\x01a", io.ErrUnexpectedEOF, "read connection 1: unexpected EOF", 0},
		"reset in a message":    {"\x01a\x05b", syscall.ECONNRESET, middle + "connection reset by peer", 1},
		"another, in a message": {"\x01a\x05b", errors.New("broken"), middle + "broken", 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serverOf(t, Config{}, accepts)
				near, far := newTwoWayPipe()
				defer far.Close()
				s.listener.conns <- &failingConn{near, test.sent, test.err}
				if errors.Is(test.err, io.ErrUnexpectedEOF) {
					s.hearsReport(far, wire.CloseReport{FirstUnread: 2, Limit: 100})
				}
				s.hearsEnd(far)
				events := []string{"1 a false"}
				if test.event != "" {
					events = append(events, test.event)
				}
				s.noted(events...)
				s.counted(Counts{Accepted: 1, Received: 1, Truncated: test.truncated})
			})
		})
	}
}

// TestStream_Closing_ReadsToEnd: after the goodbye the peer may finish. What it has sent is handled, and the
// report says so.
func TestStream_Closing_ReadsToEnd(t *testing.T) {
	for name, test := range map[string]struct {
		limits transport.Limits
		before string
		after  time.Duration // When the goodbye comes.
		behind string
		event  string
		report wire.CloseReport
		want   Counts
	}{
		"idle": {transport.Limits{IdleTimeout: time.Minute}, "\x01a", time.Minute, "\x01b", "",
			wire.CloseReport{FirstUnread: 3, Limit: 100}, Counts{Accepted: 1, Received: 2, IdleClosed: 1}},
		"too slow": {transport.Limits{MessageTimeout: 5 * time.Second}, "\x01a\x02b", 5 * time.Second, "b\x01c",
			"read connection 1: udsipc: peer is too slow: message incomplete after 5s: 2 bytes received",
			wire.CloseReport{Reason: wire.CloseTooSlow, FirstUnread: 4, Limit: 100},
			Counts{Accepted: 1, Received: 3, TooSlow: 1}},
		"too large": {transport.Limits{MaxMessageSize: 3}, "\x01a\x04bbb", 0, "b\x01c",
			"read connection 1: udsipc: message too large: 4 bytes, the limit is 3",
			wire.CloseReport{Reason: wire.CloseTooLarge, FirstUnread: 4, Skipped: 1, Limit: 3},
			Counts{Accepted: 1, Received: 2, TooLarge: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serverOf(t, Config{In: test.limits}, accepts)
				conn := s.dial()
				began := time.Now()
				s.writes(conn, []byte(test.before))
				s.hears(conn, "\x00")
				if took := time.Since(began); took != test.after {
					t.Errorf("the goodbye comes after %v, want %v", took, test.after)
				}
				s.writes(conn, []byte(test.behind))
				_ = conn.CloseWrite()
				s.hears(conn, string(test.report.Append(nil)))
				s.hearsEnd(conn)
				s.counted(test.want)
				s.mu.Lock()
				reported := len(s.events) > 1 && s.events[1] == test.event
				s.mu.Unlock()
				if test.event != "" && !reported {
					t.Errorf("noted are %q", s.events)
				}
			})
		})
	}
}

// TestStream_GoodbyeNotFollowed_Ends when the time for it is over.
func TestStream_GoodbyeNotFollowed_Ends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serverOf(t, Config{}, accepts)
		conn := s.dial()
		s.sends(conn, "a")
		stopped := s.stops()
		s.hears(conn, "\x00")
		began := time.Now()
		s.hears(conn, string(wire.CloseReport{FirstUnread: 2, Limit: 100}.Append(nil)))
		s.hearsEnd(conn)
		if took := time.Since(began); took != transport.CloseGrace {
			t.Errorf("it ends after %v, want %v", took, transport.CloseGrace)
		}
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		s.noted("1 a false")
		s.counted(Counts{Accepted: 1, Received: 1})
	})
}

func TestStream_Malformed_IsRejected(t *testing.T) {
	hello := wire.Hello{Writer: wire.WriterID{1}, Epoch: 1, FirstSeq: 1}
	for _, session := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := serverOf(t, Config{}, accepts)
			conn := s.dial()
			want := Counts{Accepted: 1, Received: 1, Malformed: 1}
			if session {
				s.opens(conn, hello, wire.Welcome{Limit: 100})
				want.Sessions, want.WriterStates, want.Acknowledged = 1, 1, 1
			}
			s.writes(conn, []byte("\x01a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01b"))
			if session {
				s.hears(conn, "\x01\x00")
			} else {
				s.hearsReport(conn, wire.CloseReport{Reason: wire.CloseMalformed, FirstUnread: 2, Limit: 100})
			}
			s.hearsEnd(conn)
			s.noted("1 a false",
				"read connection 1: udsipc: invalid length prefix: ff ff ff ff ff ff ff ff ff ff… is longer than 64 bits")
			s.counted(want)
		})
	}
}

// TestStream_LargeInSession_EndsConnection: its writer was told the limit.
func TestStream_LargeInSession_EndsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serverOf(t, Config{In: transport.Limits{MaxMessageSize: 3}}, accepts)
		conn := s.dial()
		s.opens(conn, wire.Hello{Writer: wire.WriterID{1}, Epoch: 1, FirstSeq: 1}, wire.Welcome{Limit: 3})
		s.writes(conn, []byte("\x01a\x04bbbb\x01c"))
		s.hears(conn, "\x01")
		s.hearsEnd(conn)
		s.noted("1 a false", "read connection 1: udsipc: message too large: 4 bytes, the limit is 3")
		s.counted(Counts{Accepted: 1, Received: 1, Acknowledged: 1, Sessions: 1, WriterStates: 1, TooLarge: 1})
	})
}

// TestStream_SilentPeer_IsLost: nothing more is read from a writer whose heartbeats are missing.
func TestStream_SilentPeer_IsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serverOf(t, Config{HeartbeatTimeout: 3 * time.Second}, accepts)
		conn := s.dial()
		s.opens(conn, wire.Hello{Writer: wire.WriterID{1}, Epoch: 1, FirstSeq: 1},
			wire.Welcome{Limit: 100, HeartbeatTimeout: 3 * time.Second})
		time.Sleep(2 * time.Second)
		s.writes(conn, wire.Heartbeat)
		began := time.Now()
		s.hearsEnd(conn)
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("it ends after %v", took)
		}
		s.noted("read connection 1: udsipc: heartbeat timeout: nothing came for 3s")
		s.counted(Counts{Accepted: 1, Sessions: 1, WriterStates: 1})
	})
}

// TestStream_ForcedStop_DiscardsUnhandled: a plain writer is told what was not handled, and that is counted. In
// a session the writer retransmits.
func TestStream_ForcedStop_DiscardsUnhandled(t *testing.T) {
	for _, session := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			s := serverOf(t, Config{}, func(string, bool) error { <-release; return nil })
			conn := s.dial()
			want := Counts{Accepted: 1, Received: 1}
			if session {
				s.opens(conn, wire.Hello{Writer: wire.WriterID{1}, Epoch: 1, FirstSeq: 1}, wire.Welcome{Limit: 100})
				want.Sessions, want.WriterStates, want.Acknowledged = 1, 1, 1
			} else {
				want.Discarded = 2
			}
			s.writes(conn, []byte("\x01a\x01b\x01c"))
			synctest.Wait()
			time.AfterFunc(time.Second+stopGrace/2, func() { close(release) })
			stopped := s.stopsWithin(time.Second)
			events := []string{"1 a false"}
			if !session {
				s.hearsReport(conn, wire.CloseReport{FirstUnread: 2, Limit: 100})
				events = append(events, "stop connection 1: udsipc: stopped: 2 messages were read and not handled")
			}
			s.hearsEnd(conn)
			if err := <-stopped; !errors.Is(err, context.DeadlineExceeded) ||
				!strings.Contains(err.Error(), "1 connections were still busy") {
				t.Error(err)
			}
			s.noted(events...)
			s.counted(want)
		})
	}
}
