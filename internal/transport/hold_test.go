// SPDX-License-Identifier: Apache-2.0

package transport_test

// What a connection holds while it waits, and what ends such a wait.

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/transport"
)

// holding is a connection of which an incomplete message holds read memory.
func holding(t *testing.T, l transport.Limits) testIn {
	t.Helper()
	in := inOf(t, l)
	in.sends(framed(strings.Repeat("x", 50<<10))[:40<<10])
	for in.PartialBytes() < 40<<10 {
		if err := in.Fill(); err != nil {
			t.Fatal(err)
		}
		in.gives()
	}
	if b := in.Buffered(); b.Loan == 0 {
		t.Fatalf("%+v", b)
	}
	return in
}

// TestIn_HeldMemory_IsGivenUpForOthers after two seconds, and kept as long as nobody wants it.
func TestIn_HeldMemory_IsGivenUpForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := holding(t, transport.Limits{IdleTimeout: 9 * time.Second})
		in.wantTimeout(9 * time.Second)
		in = holding(t, transport.Limits{})
		time.AfterFunc(5*time.Second, func() { in.memory.Waits.Store(true) })
		in.wantEnd(6*time.Second, transport.ErrHoldsMemory)
	})
}

// TestIn_GrantedMemory_IsKeptForItsMessage alone: the wait after that has a small buffer.
func TestIn_GrantedMemory_IsKeptForItsMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		in.memory.Left = 0
		message := strings.Repeat("x", 20<<10)
		in.sends(framed(message))
		done := make(chan error, 1)
		go func() { // Ends with the message.
			var err error
			for in.PartialBytes() < len(framed(message)) && err == nil {
				err = in.Fill()
				if in.PartialBytes() < len(framed(message)) {
					in.Next()
				}
			}
			done <- err
		}()
		synctest.Wait()
		if len(done) > 0 || in.memory.Granted == nil {
			t.Fatal("it does not wait for memory")
		}
		close(in.memory.Granted)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		in.gives(message)
		in.comes("\x05a")
		in.gives()
		in.looks(512, 0, 2, 0, 6)
	})
}

// A lastConn returns the last bytes together with the end.
type lastConn struct {
	pieceConn
	last string
}

func (c *lastConn) Read(b []byte) (n int, err error) {
	n, c.last = copy(b, c.last), ""
	return n, io.EOF
}

func TestIn_BytesWithEnd_AreRead(t *testing.T) {
	in := transport.NewIn(&lastConn{last: framed("a")}, transport.Limits{MaxMessageSize: 9, ReadSize: 512}, &testMemory{})
	if err := in.Fill(); err != nil {
		t.Fatal(err)
	}
	if data, ok, err := in.Next(); !ok || string(data) != "a" {
		t.Errorf("%q, %v", data, err)
	}
	if err := in.Fill(); err != io.EOF || in.Counted().Reads != 2 {
		t.Errorf("%v after %d reads", err, in.Counted().Reads)
	}
}
