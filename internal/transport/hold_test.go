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

// TestAckSender_MayRepeat_UpToSeq knows whether there is anything to ask.
func TestAckSender_MayRepeat_UpToSeq(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, through := range []uint64{0, 1, 2} {
			s := inOf(t, transport.Limits{}).BeginSession(0, through, 0, 0)
			if s.MayRepeat() != (through > 0) {
				t.Errorf("up to %d: %v", through, s.MayRepeat())
			}
		}
	})
}

// TestAckSender_ManyBatches_AreAcknowledgedInTime: the time begins with the first batch, not with each.
func TestAckSender_ManyBatches_AreAcknowledgedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		s := in.BeginSession(0, 0, 0, 0)
		in.comes(framed("a") + framed("b"))
		s.BeforeBatch()
		in.Next()
		s.AfterBatch()
		time.Sleep(6 * time.Millisecond)
		s.BeforeBatch()
		in.Next()
		b := make([]byte, 9)
		began := time.Now()
		_ = in.peer.SetReadDeadline(began.Add(time.Hour))
		if n, err := in.peer.Read(b); string(b[:n]) != "\x01" || time.Since(began) != 4*time.Millisecond {
			t.Errorf("it says % x, %v after %v", b[:n], err, time.Since(began))
		}
		s.AfterBatch()
		if n, err := in.peer.Read(b); n > 0 {
			t.Errorf("it says % x, %v while nothing is handled", b[:n], err)
		}
	})
}

// TestAckSender_TimersWhileItWrites wait for the next time.
func TestAckSender_TimersWhileItWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		s := in.BeginSession(0, 0, 30*time.Millisecond, 0)
		in.comes(framed("a") + framed("b") + framed("c"))
		s.BeforeBatch()
		in.Next()
		go in.SendAck() // Ends when it is read.
		time.Sleep(100*time.Millisecond - 1)
		said := make(chan string, 1)
		go func() { // Ends with the connection.
			b, _ := io.ReadAll(in.peer)
			said <- string(b)
		}()
		synctest.Wait()
		in.Next()
		in.Next()
		time.Sleep(2 * time.Nanosecond) // The timer of acknowledgements.
		synctest.Wait()
		if got := in.Counted().Acknowledged; got != 2 {
			t.Errorf("%d are acknowledged", got)
		}
		time.Sleep(20 * time.Millisecond) // That of heartbeats.
		synctest.Wait()
		in.Close()
		if got, want := <-said, "\x01\x02\x80\x00"; got != want {
			t.Errorf("it says % x, want % x", got, want)
		}
		if err := s.Close(); err == nil {
			t.Error("the last acknowledgement was sent")
		}
	})
}
