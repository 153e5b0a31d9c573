// SPDX-License-Identifier: Apache-2.0

package receiver

// What a handler gets, and what becomes of a message whose handler fails.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
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

// firstHello opens the first session of a writer.
var firstHello = wire.Hello{Writer: wire.WriterID{1}, Epoch: 1, FirstSeq: 1}

const handlerFailed = "handle connection 1: udsipc: handler failed: "

// failing is a handler that fails for each message as its text says, so many times.
func failing(times int) func(text string) error {
	calls := map[string]int{}
	return func(text string) error {
		if calls[text]++; calls[text] > times {
			return nil
		}
		switch text {
		case "error":
			return errors.New("no")
		case "panic":
			panic("oh")
		case "exit":
			runtime.Goexit()
		}
		return nil
	}
}

// TestDeliver_WithoutSink_CallsMessage also for a redelivery.
func TestDeliver_WithoutSink_CallsMessage(t *testing.T) {
	for _, session := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var s *testServer
			fail := failing(1)
			s = newServerOf(t, Config{MaxRedeliveries: 1, Message: func(data []byte) error {
				s.note(string(data))
				return fail(string(data))
			}}, nil)
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
			conn := s.dial()
			want := Counts{Accepted: 1, Received: 5, HandlerErrors: 1, Panics: 2, Open: 1}
			again := func(string) []string { return nil }
			if session {
				hello := firstHello
				hello.LastSentSeq = 1
				s.opens(conn, hello, wire.Welcome{Limit: 100})
				go io.Copy(io.Discard, conn) // Ends with the connection.
				want.Sessions, want.WriterStates, want.Redelivered, want.Acknowledged = 1, 1, 4, 5
				again = func(text string) []string { return []string{text} }
			}
			s.sends(conn, "a", "error", "panic", "exit", "b")
			events := []string{"a"}
			events = append(append(events, "error", handlerFailed+"no"), again("error")...)
			events = append(append(events, "panic", handlerFailed+"panic: oh"), again("panic")...)
			events = append(append(events, "exit", handlerFailed+"it ended its goroutine"), again("exit")...)
			time.Sleep(time.Second)
			s.noted(append(events, "b")...)
			s.counted(want)
		})
	}
}

// TestDeliver_Sink_LearnsWriter before the first message of a session.
func TestDeliver_Sink_LearnsWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *testServer
		s = newServerOf(t, Config{
			Message: func(data []byte) error { s.note(string(data)); return nil },
			Open: func(from *transport.Peer) Sink {
				s.note(fmt.Sprintf("open %d", from.ID))
				return Sink{Session: func(writer wire.WriterID) { s.note("session " + writer.String()) }}
			},
		}, nil)
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		conn := s.dial()
		s.opens(conn, firstHello, wire.Welcome{Limit: 100})
		s.sends(conn, "a")
		s.hears(conn, "\x01")
		plain := s.dial()
		s.sends(plain, "b")
		s.noted("open 1", "session "+firstHello.Writer.String(), "a", "open 2", "b")
	})
}

// TestDeliver_PerhapsHandled_IsRedelivered: messages that an earlier reader may have handled are marked, and counted.
func TestDeliver_PerhapsHandled_IsRedelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serverOf(t, Config{}, accepts)
		conn := s.dial()
		s.opens(conn, wire.Hello{Writer: wire.WriterID{1}, Epoch: 1, FirstSeq: 3, LastSentSeq: 4},
			wire.Welcome{Handled: 2, Limit: 100})
		go io.Copy(io.Discard, conn) // Ends with the connection.
		s.sends(conn, "a", "b", "c", "d")
		s.noted("3 a true", "4 b true", "5 c false", "6 d false")
		s.counted(Counts{Accepted: 1, Received: 4, Redelivered: 2, Sessions: 1, Acknowledged: 4, Open: 1, WriterStates: 1})
	})
}

// TestDeliver_Failure_IsNotAcknowledged until the message is handled, or given up, whatever its size.
func TestDeliver_Failure_IsNotAcknowledged(t *testing.T) {
	const large = 2 << 20
	for name, fail := range map[string]func() error{
		"errors": func() error { return errors.New("no") },
		"panics": func() error { panic("oh") },
		"exits":  func() error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				s := newServerOf(t, Config{In: transport.Limits{MaxMessageSize: large}, MaxRedeliveries: 5,
					Message: func([]byte) error {
						if calls++; calls == 2 {
							time.Sleep(time.Minute)
						}
						if calls < 3 {
							return fail()
						}
						return nil
					}}, nil)
				if err := s.Start(); err != nil {
					t.Fatal(err)
				}
				conn := s.dial()
				s.opens(conn, firstHello, wire.Welcome{Limit: large})
				began := time.Now()
				s.sends(conn, string(bytes.Repeat([]byte("x"), large)))
				s.hears(conn, "\x01")
				if took := time.Since(began); took != time.Minute+50*time.Millisecond {
					t.Errorf("it is acknowledged after %v", took)
				}
			})
		})
	}
}

// TestDeliver_ExitAfterError_IsRedelivered: the goroutine that continues knows which message is not handled.
func TestDeliver_ExitAfterError_IsRedelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		s := serverOf(t, Config{MaxRedeliveries: 5}, func(string, bool) error {
			switch calls++; calls {
			case 1:
				return errors.New("no")
			case 2:
				runtime.Goexit()
			}
			return nil
		})
		conn := s.dial()
		s.opens(conn, firstHello, wire.Welcome{Limit: 100})
		s.sends(conn, "a")
		s.hears(conn, "\x01")
		s.noted("1 a false", handlerFailed+"no", "1 a true", handlerFailed+"it ended its goroutine", "1 a true")
	})
}

// TestDeliver_ManyMessages_AreAcknowledgedBetween: the writer of many messages that are there at once need not wait for
// the last one.
func TestDeliver_ManyMessages_AreAcknowledgedBetween(t *testing.T) {
	const many, most = 20_000, 2048 // transport.AckSender acknowledges after so many.
	for name, cfg := range map[string]Config{
		"message": {Message: func([]byte) error { return nil }},
		"sink": {Open: func(*transport.Peer) Sink {
			return Sink{Message: func(context.Context, []byte, uint64, bool) error { return nil }}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg.In.ReadSize = 16 << 10
				s := newServerOf(t, cfg, nil)
				if err := s.Start(); err != nil {
					t.Fatal(err)
				}
				conn := s.dial()
				s.opens(conn, firstHello, wire.Welcome{Limit: 100})
				go conn.Write(bytes.Repeat([]byte("\x01a"), many)) // Ends with its steps.
				acks := bufio.NewReader(conn)
				for last := uint64(0); last < many; {
					next, err := binary.ReadUvarint(acks)
					if err != nil || next > last+most {
						t.Fatalf("behind message %d, %d is acknowledged: %v", last, next, err)
					}
					last = next
				}
			})
		})
	}
}

// TestDeliver_HandlerContext_EndsWithForcedStop, not before.
func TestDeliver_HandlerContext_EndsWithForcedStop(t *testing.T) {
	for _, session := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ended := make(chan time.Time, 1)
			s := newServerOf(t, Config{Open: func(*transport.Peer) Sink {
				return Sink{Message: func(ctx context.Context, _ []byte, _ uint64, _ bool) error {
					<-ctx.Done()
					ended <- time.Now()
					return nil
				}}
			}}, nil)
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
			conn := s.dial()
			if session {
				s.opens(conn, firstHello, wire.Welcome{Limit: 100})
			}
			s.sends(conn, "a")
			began := time.Now()
			stopped := s.stopsWithin(time.Minute)
			if took := (<-ended).Sub(began); took != time.Minute {
				t.Errorf("the context ends after %v", took)
			}
			go io.Copy(io.Discard, conn) // Ends with the connection.
			<-stopped
		})
	}
}
