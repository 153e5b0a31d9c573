// SPDX-License-Identifier: Apache-2.0

package receiver

// How a session opens and closes, or does not.

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// TestHandshake_BadHello_IsRejected: one of another version is told so. What is no hello gets no reply.
func TestHandshake_BadHello_IsRejected(t *testing.T) {
	good := firstHello.Append(nil)
	body := len(good) - len(firstHello.Append(nil)[12:]) + 1 // Behind the preface and the length.
	version, long := append([]byte{}, good...), append([]byte{}, good...)
	version[body] = 9
	long[body-1] = 0
	for name, test := range map[string]struct {
		hello     []byte
		reply     string
		event     string
		malformed uint64
	}{
		"version": {version, string(wire.Welcome{Status: wire.StatusVersion}.Append(nil)),
			"unknown version: the writer speaks 9, this reader 1", 0},
		"no length": {long, "", "malformed session handshake: 0 bytes, want 1 to 128", 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serverOf(t, Config{}, accepts)
				conn := s.dial()
				s.writes(conn, test.hello)
				s.hears(conn, test.reply)
				s.hearsEnd(conn)
				s.noted("open session connection 1: udsipc: invalid session: " + test.event)
				s.counted(Counts{Accepted: 1, Malformed: test.malformed})
			})
		})
	}
}

// TestHandshake_VersionQuery_IsAnswered: a program that asks for the version is no writer, and no error.
func TestHandshake_VersionQuery_IsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serverOf(t, Config{}, accepts)
		conn := s.dial()
		s.writes(conn, wire.AppendVersionQuery(nil))
		reply := string(wire.Welcome{Status: wire.StatusVersion}.Append(nil))
		s.hears(conn, reply)
		s.hearsEnd(conn)
		s.counted(Counts{Accepted: 1})
		if version, err := wire.ParseVersionReply([]byte(reply)); version != 1 || err != nil {
			t.Errorf("the reply has version %d, %v", version, err)
		}
		for size := range len(reply) {
			if _, err := wire.ParseVersionReply([]byte(reply[:size])); err == nil {
				t.Errorf("%d bytes of the reply are one", size)
			}
		}
	})
}

// TestHandshake_HelloInParts_IsWelcome: it may come byte by byte, and messages may follow at once.
func TestHandshake_HelloInParts_IsWelcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serverOf(t, Config{}, accepts)
		conn := s.dial()
		hello := firstHello.Append(nil)
		for i := range hello[1:] {
			s.writes(conn, hello[i:i+1])
		}
		s.writes(conn, append(hello[len(hello)-1:len(hello):len(hello)], "\x01a"...))
		s.hears(conn, string(wire.Welcome{Limit: 100}.Append(nil))+"\x01")
		s.noted("1 a false")
	})
}

// TestHandshake_HelloIncomplete_IsAccountedFor, whether its writer ends or is slow.
func TestHandshake_HelloIncomplete_IsAccountedFor(t *testing.T) {
	hello := firstHello.Append(nil)
	t.Run("end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := serverOf(t, Config{}, accepts)
			conn := s.dial()
			s.writes(conn, hello[:20])
			_ = conn.CloseWrite()
			s.hearsReport(conn, wire.CloseReport{FirstUnread: 1, Limit: 100})
			s.hearsEnd(conn)
			s.noted("read connection 1: udsipc: connection closed in the middle of a message, after 20 bytes of it: EOF")
			s.counted(Counts{Accepted: 1, Truncated: 1})
		})
	})
	t.Run("slow", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := serverOf(t, Config{In: transport.Limits{FirstMessageTimeout: time.Second}}, accepts)
			conn := s.dial()
			s.writes(conn, hello[:20])
			s.hears(conn, "\x00")
			s.writes(conn, hello[20:]) // Too late: there is no welcome behind a goodbye.
			s.hears(conn, string(wire.CloseReport{Reason: wire.CloseTooSlow, FirstUnread: 1, Limit: 100}.Append(nil)))
			s.hearsEnd(conn)
			s.noted("read connection 1: udsipc: peer is too slow: first message incomplete after 1s")
			s.counted(Counts{Accepted: 1, TooSlow: 1})
		})
	})
}

// TestHandshake_ServerStops_SendsReport: a writer that has said a hello to a server that stops gets no session.
func TestHandshake_ServerStops_SendsReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serverOf(t, Config{}, accepts)
		conn := s.dial()
		hello := firstHello.Append(nil)
		s.writes(conn, hello[:20])
		stopped := s.stops()
		s.hears(conn, "\x00")
		s.writes(conn, hello[20:])
		s.hears(conn, string(wire.CloseReport{FirstUnread: 1, Limit: 100}.Append(nil)))
		s.hearsEnd(conn)
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		s.noted()
		s.counted(Counts{Accepted: 1})
	})
}

// TestHandshake_OlderConnectionBusy_WaitsWithHeartbeats until the older one has released the state. It then
// learns what was handled.
func TestHandshake_OlderConnectionBusy_WaitsWithHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serverOf(t, Config{}, func(string, bool) error { time.Sleep(5 * time.Second); return nil })
		conn := s.dial()
		s.opens(conn, firstHello, wire.Welcome{Limit: 100})
		s.sends(conn, "a")
		synctest.Wait() // Its handler runs.
		next := s.dial()
		hello := firstHello
		hello.Epoch, hello.LastSentSeq, hello.HeartbeatTimeout = 2, 2, 9*time.Second
		began := time.Now()
		s.writes(next, hello.Append(nil))
		s.hears(next, string(wire.Heartbeat))
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("the heartbeat comes after %v", took)
		}
		go io.Copy(io.Discard, conn) // Ends with the connection.
		s.hears(next, string(wire.Welcome{Handled: 1, Limit: 100}.Append(nil)))
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("the welcome comes after %v", took)
		}
		s.hears(next, string(wire.Heartbeat))
		if took := time.Since(began); took != 8*time.Second {
			t.Errorf("the next heartbeat comes after %v", took)
		}
		s.sends(next, "b")
		go io.Copy(io.Discard, next) // Ends with the connection.
		time.Sleep(5 * time.Second)
		s.noted("1 a false", "2 b false")
		s.counted(Counts{Accepted: 2, Received: 2, Sessions: 2, Duplicates: 1, Acknowledged: 2, Open: 1, WriterStates: 1})
	})
}

// TestHandshake_StopWhileWaiting_EndsGracefully: the welcome is followed by a goodbye; after a forced stop
// there is none.
func TestHandshake_StopWhileWaiting_EndsGracefully(t *testing.T) {
	for _, forced := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := serverOf(t, Config{}, func(string, bool) error { time.Sleep(5 * time.Second); return nil })
			conn := s.dial()
			s.opens(conn, firstHello, wire.Welcome{Limit: 100})
			s.sends(conn, "a")
			synctest.Wait() // Its handler runs.
			next := s.dial()
			hello := firstHello
			hello.Epoch = 2
			s.writes(next, append(hello.Append(nil), "\x01b"...)) // The message is on its way before the goodbye is heard.
			synctest.Wait()
			began := time.Now()
			go io.Copy(io.Discard, conn) // Ends with the connection.
			limit := time.Hour
			if forced {
				limit = time.Second
			}
			stopped := s.stopsWithin(limit)
			if !forced {
				s.hears(next, string(wire.Welcome{Handled: 1, Limit: 100}.Append(nil))+"\x00")
				if took := time.Since(began); took != 5*time.Second {
					t.Errorf("the goodbye comes after %v", took)
				}
				s.hears(next, "\x02")
			}
			s.hearsEnd(next)
			if err := <-stopped; (err != nil) != forced {
				t.Error(err)
			}
			if forced {
				time.Sleep(time.Minute)
				s.noted("1 a false")
			} else {
				s.noted("1 a false", "2 b false")
			}
		})
	}
}

// TestSession_AcksUnread_IsReported: a writer that does not read its acknowledgements is ended.
func TestSession_AcksUnread_IsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serverOf(t, Config{}, accepts)
		conn := s.dial()
		s.opens(conn, firstHello, wire.Welcome{Limit: 100})
		s.sends(conn, "a")
		time.Sleep(time.Minute)
		s.noted("1 a false",
			"open session connection 1: udsipc: peer does not read: writing an acknowledgement timed out after 1s")
		s.counted(Counts{Accepted: 1, Received: 1, Sessions: 1, Acknowledged: 1, WriterStates: 1})
		next := s.dial() // What was handled is known all the same.
		hello := firstHello
		hello.Epoch = 2
		s.opens(next, hello, wire.Welcome{Handled: 1, Limit: 100})
	})
}

// TestSession_PeerEnds_SendsLastAck before it closes.
func TestSession_PeerEnds_SendsLastAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serverOf(t, Config{In: transport.Limits{IdleTimeout: time.Minute}}, accepts)
		conn := s.dial()
		s.opens(conn, firstHello, wire.Welcome{Limit: 100})
		s.sends(conn, "a")
		_ = conn.CloseWrite()
		s.hears(conn, "\x01")
		s.hearsEnd(conn)
		s.noted("1 a false")
		s.counted(Counts{Accepted: 1, Received: 1, Sessions: 1, Acknowledged: 1, WriterStates: 1})
	})
}
