// SPDX-License-Identifier: Apache-2.0

package transport_test

// The pause of a receiving connection at a frame boundary, for a hand-over.

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/transport"
)

// TestIn_NotASocket_CannotBeHandedOver: an in-memory connection is closed gracefully instead.
func TestIn_NotASocket_CannotBeHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		if err := in.HandOverError(); err != nil {
			t.Error(err)
		}
		in.RequestHandOver()
		if err := in.HandOverError(); err == nil || err.Error() != "not a plain Unix or TCP socket (TLS or in-memory)" {
			t.Error(err)
		}
		if !in.IsClosing() {
			t.Error("it stays open")
		}
	})
}

// TestIn_Pause_AtFrameBoundary_IsAtOnce, also in the middle of a wait, and gives the memory back.
func TestIn_Pause_AtFrameBoundary_IsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		in.Pause()
		in.wantEnd(0, transport.ErrHandOver)
		in = inOf(t, transport.Limits{IdleTimeout: time.Minute})
		in.comes(framed("a"))
		in.gives("a")
		time.AfterFunc(3*time.Second, in.Pause)
		in.wantEnd(3*time.Second, transport.ErrHandOver)
		in.looks(0, 0, 0, 0, 0)
		if in.IsClosing() || in.HandOverError() != nil {
			t.Errorf("closing %v, %v", in.IsClosing(), in.HandOverError())
		}
	})
}

// TestIn_Pause_InMessage_WaitsForItsEnd, or for that of a message that is skipped.
func TestIn_Pause_InMessage_WaitsForItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			first, rest string
			gives       []string
		}{{"\x05ab", "cde", []string{"abcde"}}, {"\x0b123", "45678901", nil}, {"\x80\x041", strings.Repeat("2", 511), nil}} {
			in := inOf(t, transport.Limits{MaxMessageSize: 9})
			in.comes(test.first)
			_, _, _ = in.Next()
			in.gives()
			in.Pause()
			time.AfterFunc(time.Second-1, func() { in.sends(test.rest + framed("next")) })
			reads := in.Counted().Reads
			if err := in.Fill(); err != nil {
				t.Errorf("%.9q: %v", test.first, err)
			}
			in.gives(test.gives...)
			in.wantEnd(0, transport.ErrHandOver)
			if reads = in.Counted().Reads - reads; reads != 1 {
				t.Errorf("%.9q: %d reads", test.first, reads)
			}
		}
	})
}

// TestIn_Pause_LateMessage_Closes: a message whose end does not come within a second. The time of its
// handler counts, and further bytes do not prolong it.
func TestIn_Pause_LateMessage_Closes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{IdleTimeout: time.Minute})
		said := in.heard()
		in.comes("\x05a")
		in.gives()
		in.Pause()
		time.AfterFunc(900*time.Millisecond, func() { in.sends("b") })
		if err := in.Fill(); err != nil {
			t.Error(err)
		}
		in.gives()
		in.Pause()                                                  // A second request changes nothing.
		in.wantEnd(1100*time.Millisecond, transport.ErrGracefulEnd) // A tenth to the limit, and a second after the goodbye.
		if err := in.HandOverError(); !errors.Is(err, udsipc.ErrTooSlow) ||
			!strings.HasSuffix(err.Error(), "message incomplete after 1s: 3 bytes received") {
			t.Error(err)
		}
		if got := said(); got != "\x00" {
			t.Errorf("it says % x", got)
		}
	})
}

// TestIn_Pause_MeetsClose: the close wins, whichever comes first, and is no failure of the hand-over.
func TestIn_Pause_MeetsClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		in.heard()
		in.RequestClose(0)
		in.Pause()
		in.wantEnd(time.Second, transport.ErrGracefulEnd)
		in.Close()

		in = inOf(t, transport.Limits{})
		in.heard()
		in.comes("\x05a")
		in.gives()
		in.Pause()
		time.AfterFunc(900*time.Millisecond, func() { in.RequestClose(0) })
		in.wantEnd(1900*time.Millisecond, transport.ErrGracefulEnd)
		if err := in.HandOverError(); err != nil {
			t.Error(err)
		}
		in.Close()
	})
}

// TestIn_RefuseHandOver_KeepsCause, if there is one.
func TestIn_RefuseHandOver_KeepsCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, cause := range []error{nil, errors.New("no room")} {
			in := inOf(t, transport.Limits{})
			in.Pause()
			in.RefuseHandOver(cause)
			if got := in.HandOverError(); got != cause || !in.IsClosing() {
				t.Errorf("closing %v, %v, want %v", in.IsClosing(), got, cause)
			}
		}
	})
}

// waitsForMemory is a connection whose Fill waits for memory, and what that returns.
func waitsForMemory(t *testing.T, l transport.Limits) (in testIn, done chan error) {
	t.Helper()
	in = inOf(t, l)
	in.memory.Left = 0
	in.sends(framed(strings.Repeat("x", 50<<10))[:40<<10])
	done = make(chan error, 1)
	go func() { // Ends with the wait.
		for {
			if err := in.Fill(); err != nil || in.PartialBytes() > 16<<10 {
				done <- err
				return
			}
			in.Next()
		}
	}()
	synctest.Wait()
	if len(done) > 0 || in.memory.Granted == nil {
		t.Fatal("it does not wait for memory")
	}
	return in, done
}

// TestIn_Pause_WaitForMemory_IsBounded by the time that a message has.
func TestIn_Pause_WaitForMemory_IsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, done := waitsForMemory(t, transport.Limits{})
		time.Sleep(time.Hour) // Without a hand-over it is not.
		in.Pause()
		began := time.Now()
		time.Sleep(time.Second - 1)
		synctest.Wait()
		if in.IsClosing() || in.HandOverError() != nil {
			t.Errorf("closing %v, %v", in.IsClosing(), in.HandOverError())
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if err := in.HandOverError(); !errors.Is(err, udsipc.ErrTooSlow) || !in.IsClosing() {
			t.Errorf("closing %v after %v, %v", in.IsClosing(), time.Since(began), err)
		}
		time.Sleep(time.Hour)
		if len(done) > 0 {
			t.Errorf("it does not wait for memory any longer: %v", <-done)
		}
		in.CancelWait()
		if err := <-done; err != transport.ErrGracefulEnd || in.memory.Cancels != 1 {
			t.Errorf("%v, %d cancels", err, in.memory.Cancels)
		}
	})
}

// TestIn_Pause_GrantedMemory_BeginsItsTimeAnew: the peer was not to blame for the wait.
func TestIn_Pause_GrantedMemory_BeginsItsTimeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, done := waitsForMemory(t, transport.Limits{})
		in.Pause()
		time.Sleep(900 * time.Millisecond)
		close(in.memory.Granted)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		in.gives()
		time.AfterFunc(900*time.Millisecond, func() { in.sends(strings.Repeat("x", 10<<10+3)) })
		if err := in.Fill(); err != nil {
			t.Error(err)
		}
		in.gives(strings.Repeat("x", 50<<10))
		in.wantEnd(0, transport.ErrHandOver)
	})
}
