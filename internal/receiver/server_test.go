// SPDX-License-Identifier: Apache-2.0

package receiver

// A server step by step, from a message to its end.

import (
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

func TestServer_PlainMessages_AreHandled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serverOf(t, Config{}, func(text string, _ bool) error {
			switch text {
			case "bad":
				return errors.New("no")
			case "panic":
				panic("oh")
			case "exit":
				runtime.Goexit()
			}
			return nil
		})
		conn := s.dial()
		s.sends(conn, "a", "bad", "b", "panic", "c", "exit", "d")
		s.noted("1 a false", "2 bad false", "handle connection 1: udsipc: handler failed: no",
			"3 b false", "4 panic false", "handle connection 1: udsipc: handler failed: panic: oh",
			"5 c false", "6 exit false", "handle connection 1: udsipc: handler failed: it ended its goroutine", "7 d false")
		got := s.Snapshot()
		if got.Received != 7 || got.HandlerErrors != 1 || got.Panics != 2 || got.Accepted != 1 ||
			got.Open != 1 || got.Errors != 3 || got.ReceivedBytes != 23 {
			t.Errorf("%+v", got)
		}
		go s.Stop(t.Context()) // Ends with the connection.
		s.hears(conn, "\x00")
		s.hears(conn, string(wire.CloseReport{FirstUnread: 8, Limit: 100}.Append(nil)))
		synctest.Wait()
		if got := s.Snapshot(); got.Received != 7 || got.Open != 0 || s.Failure() != nil || !s.IsStopping() {
			t.Errorf("%+v, %v", got, s.Failure())
		}
		<-s.Finished()
	})
}

// TestServer_Session_RedeliversFailed messages after growing pauses, and gives up in the end.
func TestServer_Session_RedeliversFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failures := map[string]int{"b": 1, "c": 9}
		s := serverOf(t, Config{MaxRedeliveries: 2}, func(text string, _ bool) error {
			if failures[text]--; failures[text] >= 0 {
				return errors.New("no")
			}
			return nil
		})
		conn := s.dial()
		hello := wire.Hello{Writer: wire.WriterID{1}, Epoch: 1, FirstSeq: 5, LastSentSeq: 5}
		if _, err := conn.Write(hello.Append(nil)); err != nil {
			t.Fatal(err)
		}
		s.hears(conn, string(wire.Welcome{Handled: 4, Limit: 100}.Append(nil)))
		began := time.Now()
		s.sends(conn, "a")
		s.hears(conn, "\x05")
		s.sends(conn, "b")
		s.hears(conn, "\x06")
		if took := time.Since(began); took != 10*time.Millisecond {
			t.Errorf("it takes %v", took)
		}
		s.sends(conn, "c")
		s.hears(conn, "\x07")
		if took := time.Since(began); took != 60*time.Millisecond {
			t.Errorf("it takes %v", took)
		}
		failed := "handle connection 1: udsipc: handler failed: no"
		dead := "handle connection 1: message 7 of writer " + hello.Writer.String() + " is a dead letter after 2 redeliveries"
		s.noted("5 a true", "6 b false", failed, "6 b true", "7 c false", failed, "7 c true",
			failed, "7 c true", failed, dead, "dead 7 c: no")
		got := s.Snapshot()
		if got.Sessions != 1 || got.Redelivered != 4 || got.DeadLetters != 1 ||
			got.HandlerErrors != 2 || got.Acknowledged != 3 || got.WriterStates != 1 {
			t.Errorf("%+v", got)
		}

		// A newer connection fences this one, and an older one is refused.
		next := s.dial()
		hello.Epoch, hello.FirstSeq, hello.LastSentSeq = 2, 7, 7
		if _, err := next.Write(hello.Append(nil)); err != nil {
			t.Fatal(err)
		}
		go io.Copy(io.Discard, conn) // Ends with the connection.
		synctest.Wait()
		conn.Close()
		s.hears(next, string(wire.Welcome{Handled: 7, Limit: 100}.Append(nil)))
		if got := s.Snapshot(); got.Duplicates != 1 || got.Sessions != 2 {
			t.Errorf("%+v", got)
		}
		old := s.dial()
		if _, err := old.Write(hello.Append(nil)); err != nil {
			t.Fatal(err)
		}
		s.hears(old, string(wire.Welcome{Status: wire.StatusOldEpoch}.Append(nil)))
	})
}

func TestServer_BadPeers_AreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serverOf(t, Config{
			MaxConnections: 1, In: transport.Limits{MaxMessageSize: 3, IdleTimeout: time.Minute},
		}, accepts)
		conn := s.dial()
		synctest.Wait()
		over := s.dial()
		s.hears(over, "\x00")
		over.Close()
		s.noted("accept connection 2: udsipc: too many connections: 1 are open")
		go func() { conn.Write([]byte("\x01a\x05abc")); conn.Close() }() // Ends with its steps.
		s.noted("1 a false", "read connection 1: udsipc: message too large: 5 bytes, the limit is 3")
		if got := s.Snapshot(); got.TooLarge != 1 || got.Refused != 1 || got.Open != 0 || got.Received != 1 {
			t.Errorf("%+v", got)
		}
	})
}
