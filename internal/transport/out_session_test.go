// SPDX-License-Identifier: Apache-2.0

package transport_test

// The session handshake of a sending connection, and the acknowledgements that it receives.

import (
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

var someHello = wire.Hello{Writer: [16]byte{7}, Epoch: 1, FirstSeq: 1}

// greet greets a peer that answers this.
func (o testOut) greet(g transport.HandshakeHooks, answer []byte) (wire.Welcome, error) {
	if g.Cancelled == nil {
		g.Cancelled = func() bool { return false }
	}
	if g.OnSlow == nil {
		g.OnSlow = func() { o.Error("it waits for long") }
	}
	if g.SlowAfter == 0 {
		g.SlowAfter = time.Hour
	}
	if len(answer) > 0 {
		o.says(answer)
	}
	return o.SessionHandshake(someHello, g)
}

func TestOut_Hello_IsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := outOf(t)
		want := wire.Welcome{Handled: 5, Limit: 9, HeartbeatTimeout: 3 * time.Second}
		got, err := o.greet(transport.HandshakeHooks{HeartbeatTimeout: 2 * time.Second},
			append([]byte("\x80\x00\x80\x00"), want.Append(nil)...))
		if got != want || err != nil || o.HeartbeatInterval() != time.Second {
			t.Errorf("%+v, %v, a heartbeat every %v", got, err, o.HeartbeatInterval())
		}
		hello := someHello
		hello.HeartbeatTimeout = 2 * time.Second
		if said := <-o.heard; said != string(hello.Append(nil)) {
			t.Errorf("it says % x", said)
		}
	})
}

// TestOut_Rejected_ReportsReason in each way that a reader has.
func TestOut_Rejected_ReportsReason(t *testing.T) {
	for _, test := range []struct {
		what   string
		answer []byte
		match  error
		text   string
	}{
		{"a stale hello", wire.Welcome{Status: 2}.Append(nil), udsipc.ErrConnectionClosed,
			"the reader refuses the session: a newer connection exists"},
		{"an unknown version", wire.Welcome{Status: 1}.Append(nil), udsipc.ErrAcksUnsupported,
			"the reader speaks 1, this writer 1"},
		{"a goodbye with a reason", append([]byte{0}, wire.CloseReport{Reason: 1}.Append(nil)...),
			udsipc.ErrTooManyConnections, "before the welcome: "},
		{"the same behind a heartbeat",
			append([]byte("\x80\x00\x00"), wire.CloseReport{Reason: 2}.Append(nil)...),
			udsipc.ErrUnauthorized, "before the welcome: "},
		{"a reader of frames alone", append([]byte{0}, wire.CloseReport{Reason: 4, FirstUnread: 1}.Append(nil)...),
			udsipc.ErrAcksUnsupported, "before the welcome: "},
		{"nonsense", []byte("\xff\x7fnonsense"), udsipc.ErrInvalidSession, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			o := outOf(t)
			w, err := o.greet(transport.HandshakeHooks{}, test.answer)
			if !errors.Is(err, test.match) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("%s: %+v, %v", test.what, w, err)
			}
		})
	}
	for _, test := range []struct {
		answer string
		match  error
		text   string
	}{
		{"", transport.ErrNoWelcome, "udsipc: connection closed: the peer has not answered the hello: EOF"},
		{"\x80\x00", transport.ErrNoWelcome, "not answered"},
		{"\x00", udsipc.ErrConnectionClosed, "before the welcome: "},
	} {
		synctest.Test(t, func(t *testing.T) {
			o := outOf(t)
			go func() { // Ends with its steps.
				<-o.heard
				if len(test.answer) > 0 {
					_, _ = o.peer.Write([]byte(test.answer))
				}
				synctest.Wait()
				o.peer.Close()
			}()
			_, err := o.greet(transport.HandshakeHooks{}, nil)
			if !errors.Is(err, test.match) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("% x, then the end: %v", test.answer, err)
			}
		})
	}
}

// TestOut_NoWelcome_GivesUp: it says that it waits, once, asks whether to give up, and gives up a
// reader that says nothing.
func TestOut_NoWelcome_GivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := outOf(t)
		waits := 0
		began := time.Now()
		_, err := o.greet(transport.HandshakeHooks{
			HeartbeatTimeout: 3 * time.Second, SlowAfter: time.Second, OnSlow: func() { waits++ },
		}, nil)
		if !errors.Is(err, udsipc.ErrHeartbeatTimeout) ||
			!strings.HasSuffix(err.Error(), "nothing came for 3s (WithHeartbeatTimeout)") ||
			time.Since(began) != 3*time.Second || waits != 1 {
			t.Errorf("%v after %v, %d calls", err, time.Since(began), waits)
		}

		o = outOf(t)
		began, waits = time.Now(), 0
		go func() { // Ends with its steps.
			for range 4 {
				time.Sleep(2 * time.Second)
				_, _ = o.peer.Write([]byte("\x80\x00"))
			}
		}()
		_, err = o.greet(transport.HandshakeHooks{
			HeartbeatTimeout: 3 * time.Second, SlowAfter: 4 * time.Second,
			OnSlow: func() { waits++ },
		}, nil)
		if !errors.Is(err, udsipc.ErrHeartbeatTimeout) || time.Since(began) != 11*time.Second || waits != 1 {
			t.Errorf("%v after %v, %d calls", err, time.Since(began), waits)
		}

		o = outOf(t)
		began = time.Now()
		_, err = o.greet(transport.HandshakeHooks{
			SlowAfter: time.Second, OnSlow: func() { waits++ },
			Cancelled: func() bool { return time.Since(began) >= time.Second },
		}, nil)
		if !errors.Is(err, udsipc.ErrStopped) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// TestOut_Acknowledgements_LastCounts: of several the last counts, and each is of a later message.
func TestOut_Acknowledgements_LastCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := outOf(t)
		var numbers []uint64
		_, err := o.greet(transport.HandshakeHooks{HeartbeatTimeout: time.Second, Acknowledge: func(n uint64) (bool, error) {
			numbers = append(numbers, n)
			return false, nil
		}}, append(wire.Welcome{Limit: 1}.Append(nil), 1, 2))
		if err != nil {
			t.Fatal(err)
		}
		var woken atomic.Int32 // To the race detector, a sleep puts nothing in order.
		go o.ReadLoop(func() { woken.Add(1) })
		for _, piece := range []string{"", "\x03", "\x80", "\x00\x05\x80\x01\x80\x00\xac", "\x02"} {
			if piece != "" {
				o.says([]byte(piece))
			}
			synctest.Wait()
			time.Sleep(900 * time.Millisecond)
		}
		if want := []uint64{2, 3, 128, 300}; !slices.Equal(numbers, want) || woken.Load() != 0 || o.IsWriteStopped() {
			t.Errorf("acknowledged %d, want %d; woken %d times", numbers, want, woken.Load())
		}
		o.says([]byte{0})
		synctest.Wait()
		if woken.Load() != 1 || !o.IsWriteStopped() {
			t.Errorf("the goodbye wakes %d times", woken.Load())
		}
		o.WaitReadLoop()
		synctest.Wait() // The last call comes after that.
		if end := o.CloseAndAccount(nil, nil); woken.Load() != 2 ||
			!errors.Is(end.Cause, udsipc.ErrHeartbeatTimeout) || end.Lost != 0 {
			t.Errorf("%+v, woken %d times", end, woken.Load())
		}
	})
}

// TestOut_DecreasingAcknowledgement_IsError that go back.
func TestOut_DecreasingAcknowledgement_IsError(t *testing.T) {
	for piece, text := range map[string]string{
		"\x05\x05":         "message 5 after message 5",
		"\x05\x04":         "message 4 after message 5",
		"\x09\x81\x00":     "longer than it need be",
		"\x07":             "the queue's error",
		"\x03\x80\x80\x00": "longer than it need be",
	} {
		synctest.Test(t, func(t *testing.T) {
			o := outOf(t)
			queueError := errors.New("the queue's error")
			fails := func(uint64) (bool, error) { return false, queueError }
			welcome := wire.Welcome{Limit: 1}.Append(nil)
			if _, err := o.greet(transport.HandshakeHooks{Acknowledge: fails}, welcome); err != nil {
				t.Fatal(err)
			}
			go o.ReadLoop(func() {})
			o.says([]byte(piece))
			o.WaitReadLoop()
			end := o.CloseAndAccount(nil, nil)
			if end.Cause == nil || !strings.Contains(end.Cause.Error(), text) || end.Lost != 0 {
				t.Errorf("% x: %+v", piece, end)
			}
		})
	}
}

// TestOut_HelloUnread_TimesOut as any write does.
func TestOut_HelloUnread_TimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		o := transport.NewOut(near, time.Second)
		defer o.Close()
		began := time.Now()
		hooks := transport.HandshakeHooks{SlowAfter: time.Hour, Cancelled: func() bool { return false }}
		w, err := o.SessionHandshake(someHello, hooks)
		if !errors.Is(err, os.ErrDeadlineExceeded) || w != (wire.Welcome{}) || time.Since(began) != time.Second {
			t.Errorf("%+v, %v after %v", w, err, time.Since(began))
		}
	})
}

// TestOut_InterruptedHandshake_GoesOn: OnSlow is called at its time, whatever comes before.
func TestOut_InterruptedHandshake_GoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, heartbeat := range []time.Duration{0, 5 * time.Second, 500 * time.Millisecond} {
			o := outOf(t)
			began := time.Now()
			var slow []time.Duration
			time.AfterFunc(400*time.Millisecond, o.InterruptHandshake)
			time.AfterFunc(2*time.Second, func() { o.says(wire.Welcome{Limit: 1}.Append(nil)) })
			_, err := o.greet(transport.HandshakeHooks{
				HeartbeatTimeout: heartbeat, SlowAfter: time.Second,
				OnSlow: func() { slow = append(slow, time.Since(began)) },
			}, nil)
			if heartbeat == 500*time.Millisecond {
				if !errors.Is(err, udsipc.ErrHeartbeatTimeout) || time.Since(began) != heartbeat || slow != nil {
					t.Errorf("%v after %v, slow after %v", err, time.Since(began), slow)
				}
				continue
			}
			if err != nil || !slices.Equal(slow, []time.Duration{time.Second}) {
				t.Errorf("heartbeats of %v: %v, slow after %v", heartbeat, err, slow)
			}
		}
	})
}

// TestOut_Completed_CountsFromFirstMessage.
func TestOut_Completed_CountsFromFirstMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := outOf(t)
		for messages := range 3 {
			if o.WroteMessages() != (messages > 0) {
				t.Errorf("%d messages", messages)
			}
			o.Completed(1)
		}
	})
}
