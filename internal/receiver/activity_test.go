// SPDX-License-Identifier: Apache-2.0

package receiver

// What a server reports of its work: counters, activity, hung handlers.

import (
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/systemd"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// TestSnapshot_Counters_AreEachInPlace: each counter comes out under its own name.
func TestSnapshot_Counters_AreEachInPlace(t *testing.T) {
	s := New(Config{MaxWriterStates: 10, WriterRetention: time.Hour})
	c := &s.counts
	c.read = transport.ReadCounts{Received: 1, ReceivedBytes: 2, Reads: 3, Acknowledged: 4}
	for i, counter := range []*atomic.Uint64{
		&c.handlerErrors, &c.panics, &c.tooLarge, &c.tooSlow, &c.truncated, &c.malformed, &c.discarded, &c.accepted,
		&c.refused, &c.idleClosed,
		&c.acceptErrors, &c.errors, &c.sessions, &c.redelivered, &c.duplicates, &c.deadLetters, &c.unauthorized,
		&c.handshakeErrors, &c.handedOver, &c.takenOver,
	} {
		counter.Store(uint64(5 + i))
	}
	s.writerStates.restore([]wire.WriterSnapshot{{}}, time.Now())
	s.conns.all[&connection{in: transport.NewIn(nil, transport.Limits{}, plenty{})}] = struct{}{}
	s.conns.all[&connection{in: transport.NewIn(nil, transport.Limits{}, plenty{})}] = struct{}{}
	want := Counts{
		Received: 1, ReceivedBytes: 2, Reads: 3, Acknowledged: 4, HandlerErrors: 5, Panics: 6, TooLarge: 7, TooSlow: 8,
		Truncated: 9, Malformed: 10, Discarded: 11,
		Accepted: 12, Refused: 13, IdleClosed: 14, AcceptErrors: 15, Errors: 16, Sessions: 17, Redelivered: 18,
		Duplicates: 19, DeadLetters: 20,
		Unauthorized: 21, HandshakeErrors: 22, HandedOver: 23, Inherited: 24, Open: 2, WriterStates: 1,
	}
	if got := s.Snapshot(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestActivity_Work_IsProgress: messages, bytes and redeliveries are, of open connections and of those that
// have ended. A new connection is none.
func TestActivity_Work_IsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail := failing(2)
		s := serverOf(t, Config{MaxRedeliveries: 3}, func(text string, _ bool) error { return fail(text) })
		active := func(connections int, received uint64, progress uint64) {
			t.Helper()
			synctest.Wait()
			if got, want := s.Activity(), (systemd.Activity{Connections: connections, Received: received,
				Progress: progress}); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		}
		active(0, 0, 0)
		a := s.dial()
		s.sends(a, "abc")
		active(1, 1, 1+4-1)
		_ = a.CloseWrite()
		s.hearsReport(a, wire.CloseReport{FirstUnread: 2, Limit: 100})
		active(0, 1, 1+4)
		b := s.dial()
		hello := firstHello.Append(nil)
		s.opens(b, firstHello, wire.Welcome{Limit: 100})
		s.sends(b, "error")
		s.hears(b, "\x01")
		active(1, 2, 1+4+1+6+uint64(len(hello))+2-1)
	})
}

// TestActivity_UnreadBytes_AreWaiting while a handler is busy.
func TestActivity_UnreadBytes_AreWaiting(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	release, busy := make(chan struct{}), make(chan struct{}, 9)
	s := newServerOf(t, Config{Listener: listener}, func(string, bool) error { busy <- struct{}{}; <-release; return nil })
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	defer close(release)
	total := 0
	for range 2 {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		s.sends(conn, "a")
		<-busy
		s.sends(conn, "behind it")
		total += 10
	}
	for deadline := time.Now().Add(10 * time.Second); s.Activity().Waiting != total; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v, want %d bytes waiting", s.Activity(), total)
		}
	}
}

// TestHungConns_BusyHandlers_AreFoundOnce, and counted as long as they hang.
func TestHungConns_BusyHandlers_AreFoundOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = time.Minute
		s := serverOf(t, Config{MaxRedeliveries: 9}, func(text string, redelivered bool) error {
			switch {
			case text == "hangs":
				time.Sleep(time.Hour)
			case text == "fails":
				return errAccept
			}
			return nil
		})
		began := time.Now()
		hung := func(after time.Duration, total int, want ...string) {
			t.Helper()
			time.Sleep(time.Until(began.Add(after)))
			synctest.Wait()
			found, all := s.HungConns(time.Now(), limit)
			for i := range found {
				found[i] = found[i][:len("x, connection 1")]
			}
			slices.Sort(found)
			if !slices.Equal(found, want) || all != total {
				t.Errorf("after %v: %q and %d in all, want %q and %d", after, found, all, want, total)
			}
		}
		a, _ := s.dial(), s.dial() // The second one is idle.
		s.sends(a, "hangs")
		hung(0, 0)
		hung(limit, 0)
		hung(limit+1, 1, "x, connection 1")
		b := s.dial()
		s.sends(b, "hangs")
		hung(limit+2, 1)
		hung(2*limit+2, 1)
		hung(2*limit+3, 2, "x, connection 3")
		go s.sends(a, "hangs") // Handled an hour later, when the first one is: that is progress.
		hung(time.Hour+time.Second, 1)
		hung(time.Hour+limit+time.Second, 0)
		hung(time.Hour+limit+2*time.Second, 1, "x, connection 1")
	})
}

// TestHungConns_Redeliveries_AreProgress: a message that fails again and again is not one that hangs.
func TestHungConns_Redeliveries_AreProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serverOf(t, Config{MaxRedeliveries: 100},
			func(string, bool) error { time.Sleep(50 * time.Second); return errAccept })
		conn := s.dial()
		s.opens(conn, firstHello, wire.Welcome{Limit: 100})
		s.sends(conn, "a")
		for range 50 {
			time.Sleep(10 * time.Second)
			if found, total := s.HungConns(time.Now(), time.Minute); len(found) != 0 || total != 0 {
				t.Fatalf("%q hang", found)
			}
		}
		if conn.CloseWrite(); s.Snapshot().Redelivered < 8 {
			t.Errorf("%+v", s.Snapshot())
		}
	})
}

func TestHungConns_RedeliveryPause_IsNotBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serverOf(t, Config{MaxRedeliveries: 100}, refuses)
		conn := s.dial()
		s.opens(conn, firstHello, wire.Welcome{Limit: 100})
		s.sends(conn, "a")
		time.Sleep(10 * time.Second) // All pauses are a second long now.
		synctest.Wait()
		busy := func() (busy bool) {
			s.Server.mu.Lock()
			defer s.Server.mu.Unlock()
			for c := range s.conns.all {
				busy = busy || c.inHandler.Load()
			}
			return busy
		}
		if busy() {
			t.Error("a pause counts as the time of a handler")
		}
	})
}
