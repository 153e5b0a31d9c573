// SPDX-License-Identifier: Apache-2.0

package receiver

// Redeliveries that are given up or interrupted.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

var deadLetter = "handle connection 1: message 1 of writer " + firstHello.Writer.String() + " is a dead letter after "

func refuses(string, bool) error { return errors.New("no") }

// TestDeadLetter_CallbackFails_CountsAsHandled: neither a panic nor an end of the goroutine gives the message back.
func TestDeadLetter_CallbackFails_CountsAsHandled(t *testing.T) {
	for name, test := range map[string]struct {
		fail  func()
		event string
	}{
		"panics": {func() { panic("oh") }, "panic: oh"},
		"exits":  {runtime.Goexit, "it ended its goroutine"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s *testServer
				s = newServerOf(t, Config{Open: func(*transport.Peer) Sink {
					return Sink{
						Message: func(_ context.Context, data []byte, seq uint64, _ bool) error {
							s.note(string(data))
							if seq == 1 {
								return errors.New("no")
							}
							return nil
						},
						DeadLetter: func([]byte, uint64, error) { test.fail() },
					}
				}}, nil)
				if err := s.Start(); err != nil {
					t.Fatal(err)
				}
				conn := s.dial()
				s.opens(conn, firstHello, wire.Welcome{Limit: 100})
				s.sends(conn, "a")
				s.hears(conn, "\x01")
				s.sends(conn, "b")
				s.hears(conn, "\x02")
				s.noted("a", handlerFailed+"no", deadLetter+"0 redeliveries", handlerFailed+test.event, "b")
				s.counted(Counts{Accepted: 1, Received: 2, HandlerErrors: 1, DeadLetters: 1, Acknowledged: 2, Sessions: 1,
					Open: 1, WriterStates: 1})
			})
		})
	}
}

// TestRedelivery_NewerConnection_ContinuesCount: a connection that is fenced while it pauses ends at once, and
// its failures count.
func TestRedelivery_NewerConnection_ContinuesCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serverOf(t, Config{MaxRedeliveries: 2}, refuses)
		conn := s.dial()
		s.opens(conn, firstHello, wire.Welcome{Limit: 100})
		s.sends(conn, "a")
		time.Sleep(30 * time.Millisecond) // The second redelivery is to come after 50 ms.
		next := s.dial()
		began := time.Now()
		hello := firstHello
		hello.Epoch, hello.LastSentSeq = 2, 1
		s.opens(next, hello, wire.Welcome{Limit: 100})
		s.hearsEnd(conn)
		s.sends(next, "a")
		s.hears(next, "\x01")
		if took := time.Since(began); took != 0 {
			t.Errorf("the newer connection waits for %v", took)
		}
		failed := func(connection string) string {
			return "handle connection " + connection + ": udsipc: handler failed: no"
		}
		s.noted("1 a false", failed("1"), "1 a true", failed("1"), "1 a true", failed("2"),
			"handle connection 2: message 1 of writer "+hello.Writer.String()+" is a dead letter after 2 redeliveries",
			"dead 1 a: no")
		s.counted(Counts{Accepted: 2, Received: 2, HandlerErrors: 2, Redelivered: 2, DeadLetters: 1, Acknowledged: 1,
			Sessions: 2, Open: 1, WriterStates: 1})
	})
}

// TestRedelivery_ForcedStop_IsInterrupted: the message is not handled, and nothing behind it is.
func TestRedelivery_ForcedStop_IsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serverOf(t, Config{MaxRedeliveries: 9}, refuses)
		conn := s.dial()
		s.opens(conn, firstHello, wire.Welcome{Limit: 100})
		s.writes(conn, []byte("\x01a\x01b"))
		go io.Copy(io.Discard, conn)      // Ends with the connection.
		time.Sleep(30 * time.Millisecond) // The second redelivery is to come after 50 ms.
		began := time.Now()
		<-s.stopsWithin(time.Millisecond)
		if took := time.Since(began); took != time.Millisecond {
			t.Errorf("the stop takes %v", took)
		}
		s.noted("1 a false", handlerFailed+"no", "1 a true", handlerFailed+"no")
		s.counted(Counts{Accepted: 1, Received: 1, HandlerErrors: 1, Redelivered: 1, Sessions: 1, WriterStates: 1})
	})
}

// TestDeadLetter_NoCallback_IsOnlyReported: the message counts as handled.
func TestDeadLetter_NoCallback_IsOnlyReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServerOf(t, Config{Message: func([]byte) error { return errors.New("no") }}, nil)
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		conn := s.dial()
		s.opens(conn, firstHello, wire.Welcome{Limit: 100})
		s.sends(conn, "a")
		s.hears(conn, "\x01")
		s.noted(handlerFailed+"no", deadLetter+"0 redeliveries")
		s.counted(Counts{Accepted: 1, Received: 1, HandlerErrors: 1, DeadLetters: 1, Acknowledged: 1, Sessions: 1, Open: 1,
			WriterStates: 1})
	})
}

// TestDeadLetter_SlowCallback_IsAcknowledgedAfterIt: a process that is killed in it gets the message again.
func TestDeadLetter_SlowCallback_IsAcknowledgedAfterIt(t *testing.T) {
	for _, batches := range []bool{false, true} {
		t.Run(fmt.Sprintf("batches %v", batches), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := Config{Open: func(*transport.Peer) Sink {
					sink := Sink{DeadLetter: func([]byte, uint64, error) { time.Sleep(time.Second) }}
					if batches {
						sink.Add = func(Batch, []byte, uint64, bool) {}
					} else {
						sink.Message = func(context.Context, []byte, uint64, bool) error { return errors.New("no") }
					}
					return sink
				}}
				if batches {
					cfg.Batches = &Batches{Max: 100, New: func() Batch {
						return &testBatch{handle: func(context.Context, string) error { return errors.New("no") }}
					}}
				}
				s := newServerOf(t, cfg, nil)
				if err := s.Start(); err != nil {
					t.Fatal(err)
				}
				conn := s.dial()
				s.opens(conn, firstHello, wire.Welcome{Limit: 100})
				s.sends(conn, "a")
				began := time.Now()
				s.hears(conn, "\x01")
				if took := time.Since(began); took < time.Second {
					t.Errorf("acknowledged after %v: want 1 s or more", took)
				}
			})
		})
	}
}
