// SPDX-License-Identifier: Apache-2.0

package transport_test

// What a connection reports of itself, and its ends at once.

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// TestIn_Parts_AreThoseGiven: the connection, its socket, and what was negotiated.
func TestIn_Parts_AreThoseGiven(t *testing.T) {
	near, far := ipctest.SocketPair(t)
	in := transport.NewIn(near, transport.Limits{MaxMessageSize: 100, ReadSize: 1000}, &testMemory{})
	if in.Connection() != net.Conn(near) || in.HandOverSocket() != near {
		t.Error("it is another connection")
	}
	s := in.BeginSession(0, 0, 7*time.Second, 8*time.Second)
	if limit, timeout, interval := s.Negotiated(); limit != 100 || timeout != 8*time.Second || interval != 7*time.Second {
		t.Error(limit, timeout, interval)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	in.CloseNow()
	if n, err := far.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestIn_User_IsThatOfReservation.
func TestIn_User_IsThatOfReservation(t *testing.T) {
	in := bufferOf(t, 100*kib, 1<<20)
	in.SetUser("uid 7")
	in.Arrive(16 * kib) // Much came.
	in.ReleaseBuffer()
	in.has(true)
	if in.memory.User != "uid 7" {
		t.Errorf("the reservation is of %q", in.memory.User)
	}
}

// TestIn_DeadlineOfClosing_IsKept: a user's deadline does not wake a connection that is closing.
func TestIn_DeadlineOfClosing_IsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for what, end := range map[string]func(in testIn){
			"halted": func(in testIn) { in.Halt() }, "closed": func(in testIn) { in.RequestClose(0) },
		} {
			in := inOf(t, transport.Limits{})
			in.heard()
			end(in)
			if err := in.SetUserDeadline(time.Now().Add(time.Hour)); err != nil {
				t.Error(err)
			}
			began := time.Now()
			if _, err := in.Connection().Read(make([]byte, 1)); !isTimeoutError(err) || time.Since(began) != 0 {
				t.Errorf("%s: %v after %v", what, err, time.Since(began))
			}
			in.Close()
		}
	})
}

// TestIn_ConnClosed_ReturnsItsError in each kind of wait.
func TestIn_ConnClosed_ReturnsItsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		in.CloseNow()
		in.wantEnd(0, io.ErrClosedPipe)
		in = inOf(t, transport.Limits{IdleTimeout: time.Minute})
		time.AfterFunc(time.Second, in.CloseNow)
		in.wantEnd(time.Second, io.ErrClosedPipe)
	})
	near, _ := ipctest.SocketPair(t)
	in := transport.NewIn(near, transport.Limits{MaxMessageSize: 100, ReadSize: 1000}, &testMemory{})
	in.CloseNow()
	if err := in.Fill(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// TestOut_ConnClosed_ReturnsItsError, in the handshake and behind it.
func TestOut_ConnClosed_ReturnsItsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := outOf(t)
		o.CloseNow()
		if _, err := o.greet(transport.HandshakeHooks{}, nil); !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
		o = outOf(t)
		hooks := transport.HandshakeHooks{Cancelled: func() bool { o.CloseNow(); return false }}
		if _, err := o.greet(hooks, nil); err == nil {
			t.Error("a connection that is closed has a session")
		}
		o = outOf(t)
		if _, err := o.greet(transport.HandshakeHooks{}, wire.Welcome{Limit: 1}.Append(nil)); err != nil {
			t.Fatal(err)
		}
		o.CloseNow()
		o.ReadLoop(func() {})
		if end := o.CloseAndAccount(nil, nil); !errors.Is(end.Cause, io.ErrClosedPipe) || end.Lost != 0 {
			t.Errorf("%+v", end)
		}
		if _, err := o.Write(bufs("x")); !errors.Is(err, transport.ErrGracefulEnd) {
			t.Error(err)
		}
	})
}

// TestOut_EarlyAcknowledgement_InterruptsWrite that waits for long, so that its messages leave the queue.
func TestOut_EarlyAcknowledgement_InterruptsWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, early := range []bool{true, false} {
			near, far := net.Pipe()
			o := testOut{transport.NewOut(near, time.Second), t, far, nil}
			go func() { // Ends with its steps.
				_, _ = far.Read(make([]byte, 100))
				_, _ = far.Write(wire.Welcome{Limit: 1}.Append(nil))
			}()
			hooks := transport.HandshakeHooks{Acknowledge: func(uint64) (bool, error) { return early, nil }}
			if _, err := o.greet(hooks, nil); err != nil {
				t.Fatal(err)
			}
			go o.ReadLoop(func() {})
			time.AfterFunc(100*time.Millisecond, func() { o.says([]byte{1}) })
			began, want := time.Now(), time.Second
			if early {
				want = 100 * time.Millisecond
			}
			_, err := o.Write(bufs("\x01a"))
			if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took != want {
				t.Errorf("early %v: %v after %v", early, err, took)
			}
			if waited, err := o.AfterTimeout(0, err); waited == early || err != nil {
				t.Errorf("early %v: waited %v, %v", early, waited, err)
			}
			o.Close()
			o.WaitReadLoop()
			far.Close()
		}
	})
}

// TestOut_MarkProgress_CountsAsUse of a session's connection.
func TestOut_MarkProgress_CountsAsUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := outOf(t)
		if _, err := o.greet(transport.HandshakeHooks{}, wire.Welcome{Limit: 1}.Append(nil)); err != nil {
			t.Fatal(err)
		}
		if got := o.FailuresAfter(3); got != 4 {
			t.Errorf("%d without progress", got)
		}
		o.MarkProgress()
		if got := o.FailuresAfter(3); got != 1 {
			t.Errorf("%d with progress at once", got)
		}
		o.OnSlowWrite(func() { t.Error("a write with a deadline is reported") })
		if o.ReportsSlow() {
			t.Error("writes with a deadline have a second one")
		}
		time.Sleep(time.Hour)
		if got := o.FailuresAfter(3); got != 0 {
			t.Errorf("%d with progress after an hour", got)
		}
	})
}
