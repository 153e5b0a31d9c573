// SPDX-License-Identifier: Apache-2.0

package transport_test

// A sending connection: its writes, and what its end means.

import (
	"errors"
	"fmt"
	"io"
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

// A testOut is an Out of which a test plays the peer.
type testOut struct {
	*transport.Out
	*testing.T
	peer  net.Conn
	heard chan string // What the peer has read, piece by piece.
}

// outOf must be called in a bubble.
func outOf(t *testing.T) testOut {
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	o := testOut{transport.NewOut(near, time.Second), t, far, make(chan string, 1000)}
	go func() { // Ends with the connection.
		defer close(o.heard)
		for b := make([]byte, 1<<16); ; {
			n, err := far.Read(b)
			if err != nil {
				return
			}
			o.heard <- string(b[:n])
		}
	}()
	return o
}

func (o testOut) says(b []byte) { go o.peer.Write(b) } // Ends with the connection.

// TestOut_PlainReaderEnds_InfersRead from the last words of a plain reader, and from their absence.
func TestOut_PlainReaderEnds_InfersRead(t *testing.T) {
	goodbye := func(r wire.CloseReport) []byte { return append([]byte{0}, r.Append(nil)...) }
	for _, test := range []struct {
		what  string
		says  []byte
		want  transport.Outcome
		match error
	}{
		{"nothing", nil, transport.Outcome{Lost: 5}, io.EOF},
		{"all read", goodbye(wire.CloseReport{FirstUnread: 6, Limit: 9}),
			transport.Outcome{ReaderLimit: 9, Reported: true}, io.EOF},
		{"some read", goodbye(wire.CloseReport{FirstUnread: 4, Skipped: 1, Limit: 9}),
			transport.Outcome{Lost: 3, ReaderLimit: 9, Reported: true}, io.EOF},
		{"not known", goodbye(wire.CloseReport{Skipped: 2, Limit: 9}),
			transport.Outcome{Lost: 5, ReaderLimit: 9, Reported: true}, io.EOF},
		{"too large", goodbye(wire.CloseReport{Reason: 3, FirstUnread: 6, Skipped: 1, Limit: 9}),
			transport.Outcome{Lost: 1, Reason: 3, ReaderLimit: 9, Reported: true},
			udsipc.ErrMessageTooLarge},
		{"malformed", goodbye(wire.CloseReport{Reason: 4, FirstUnread: 6}),
			transport.Outcome{Reason: 4, Reported: true}, udsipc.ErrInvalidLengthPrefix},
		{"too slow", goodbye(wire.CloseReport{Reason: 5, FirstUnread: 6}),
			transport.Outcome{Reason: 5, Reported: true}, udsipc.ErrTooSlow},
		{"not TLS", goodbye(wire.CloseReport{Reason: 6, FirstUnread: 6}),
			transport.Outcome{Reason: 6, Reported: true}, udsipc.ErrHandshake},
		{"full", goodbye(wire.CloseReport{Reason: 1, FirstUnread: 1}),
			transport.Outcome{Lost: 5, Reason: 1, Reported: true}, udsipc.ErrTooManyConnections},
		{"a later reason", goodbye(wire.CloseReport{Reason: 99, FirstUnread: 6}),
			transport.Outcome{Reason: 99, Reported: true}, udsipc.ErrConnectionClosed},
		{"foreign", []byte("H"), transport.Outcome{Lost: 5}, udsipc.ErrConnectionClosed},
		{"foreign behind the goodbye", []byte("\x00\x00"), transport.Outcome{Lost: 5}, udsipc.ErrConnectionClosed},
	} {
		synctest.Test(t, func(t *testing.T) {
			o := outOf(t)
			var woken atomic.Int32
			go o.ReadLoop(func() { woken.Add(1) })
			n, err := o.Write(bufs("\x01a\x01b", "\x01c\x01d\x01e"))
			if n != 10 || err != nil {
				t.Fatal(n, err)
			}
			o.Completed(5)
			for _, b := range test.says {
				_, _ = o.peer.Write([]byte{b})
			}
			synctest.Wait()
			wakes := int32(0)
			if len(test.says) > 0 && test.says[0] == 0 {
				wakes = 1 // At the first byte of the goodbye.
			}
			if strings.HasPrefix(test.what, "foreign") {
				wakes++ // ReadLoop ends, although the peer stays.
			}
			if o.IsWriteStopped() != (wakes > 0) || woken.Load() != wakes {
				t.Errorf("%s: leaving %v, woken %d times", test.what, o.IsWriteStopped(), woken.Load())
			}
			o.peer.Close()
			got := o.CloseAndAccount(nil, nil)
			if strings.HasPrefix(test.what, "foreign") &&
				!strings.HasSuffix(got.Cause.Error(), fmt.Sprintf("it sent %02x", test.says[0])) {
				t.Errorf("%s: %v", test.what, got.Cause)
			}
			if got.Lost+o.Confirmed() != 5 {
				t.Errorf("%s: %d are lost, %d confirmed", test.what, got.Lost, o.Confirmed())
			}
			if !errors.Is(got.Cause, test.match) {
				t.Errorf("%s: %v, want %v", test.what, got.Cause, test.match)
			}
			silent := test.what == "nothing" || strings.HasPrefix(test.what, "foreign")
			if got.Silent != silent || got.Messages != 5 || got.Recent != 5 {
				t.Errorf("%s: silent %v, %d messages", test.what, got.Silent, got.Messages)
			}
			got.Cause, got.Silent, got.Messages, got.Recent, test.want.Unread = nil, false, 0, 0, got.Unread
			if got != test.want {
				t.Errorf("%s: %+v, want %+v", test.what, got, test.want)
			}
		})
	}
}

// TestOut_Failures_AreCountedInARow of connections in a row.
func TestOut_Failures_AreCountedInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			lived time.Duration
			want  int
		}{{0, 8}, {time.Second - 1, 8}, {time.Second, 0}} {
			o := outOf(t)
			time.Sleep(test.lived)
			if got := o.FailuresAfter(7); got != test.want {
				t.Errorf("after %v: %d", test.lived, got)
			}
		}
		for _, test := range []struct {
			lived time.Duration
			acked bool
			want  int
		}{
			{0, false, 8}, {0, true, 1}, {10*time.Millisecond - 1, true, 1},
			{10 * time.Millisecond, true, 0}, {time.Hour, false, 8},
		} {
			o := outOf(t)
			ack := func(uint64) (bool, error) { return false, nil }
			if _, err := o.greet(transport.HandshakeHooks{Acknowledge: ack}, wire.Welcome{Limit: 1}.Append(nil)); err != nil {
				t.Fatal(err)
			}
			go o.ReadLoop(func() {})
			if test.acked {
				o.says([]byte{1})
			}
			synctest.Wait()
			time.Sleep(test.lived)
			if got := o.FailuresAfter(7); got != test.want {
				t.Errorf("a session after %v, acknowledged %v: %d, want %d", test.lived, test.acked, got, test.want)
			}
		}
	})
}

// TestOut_WriteDeadline_CanContinue until its time is over, and goes on.
func TestOut_WriteDeadline_CanContinue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		o := transport.NewOut(near, time.Second)
		defer o.Close()
		began := time.Now()
		n, err := o.Write(bufs("abc"))
		if n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("%d bytes, %v after %v", n, err, time.Since(began))
		}
		if waited, err := o.AfterTimeout(0, err); !waited || err != nil {
			t.Errorf("%v, %v", waited, err)
		}
		if waited, err := o.AfterTimeout(0, io.EOF); waited || err != io.EOF {
			t.Errorf("%v, %v", waited, err)
		}
		// An acknowledgement of what is being written interrupts a write that hangs, and no other.
		time.AfterFunc(10*time.Millisecond-1, o.InterruptWrite)
		time.AfterFunc(30*time.Millisecond, o.InterruptWrite)
		began = time.Now()
		_, err = o.Write(bufs("abc"))
		if took := time.Since(began); took != 30*time.Millisecond {
			t.Errorf("poked after %v", took)
		}
		if waited, err := o.AfterTimeout(0, err); waited || err != nil {
			t.Errorf("%v, %v", waited, err)
		}
		time.AfterFunc(10*time.Millisecond, o.InterruptWrite)
		began = time.Now()
		_, err = o.Write(bufs("abc"))
		if took := time.Since(began); took != 10*time.Millisecond {
			t.Errorf("poked after %v", took)
		}
		if waited, err := o.AfterTimeout(0, err); waited || err != nil {
			t.Errorf("%v, %v", waited, err)
		}
		go io.Copy(io.Discard, far) // Ends with the connection.
		if n, err := o.Write(bufs("abc", "de")); n != 5 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		if err := o.SendHeartbeat(); err != nil {
			t.Error(err)
		}
		go o.ReadLoop(func() {})
		far.Write([]byte{0})
		synctest.Wait()
		if _, err := o.Write(bufs("x")); !errors.Is(err, transport.ErrGracefulEnd) {
			t.Errorf("it writes to a peer that has said goodbye: %v", err)
		}
		if waited, err := o.AfterTimeout(1, os.ErrDeadlineExceeded); waited || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v, %v", waited, err)
		}
		far.Close()
		o.CloseAndAccount(nil, nil)
	})
}

// TestOut_EarlyTimeout_IsError if nothing was written: all later writes would fail too.
func TestOut_EarlyTimeout_IsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for timeout, least := range map[time.Duration]time.Duration{
			time.Second: 10 * time.Millisecond, 4 * time.Millisecond: 4 * time.Millisecond,
		} {
			near, far := net.Pipe()
			o := transport.NewOut(near, timeout)
			go io.Copy(io.Discard, far) // Ends with the connection.
			if n, err := o.Write(bufs("abc", "de")); n != 5 || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
			if waited, err := o.AfterTimeout(1, os.ErrDeadlineExceeded); !waited || err != nil {
				t.Errorf("after a byte: %v, %v", waited, err)
			}
			time.Sleep(least - 1)
			if waited, err := o.AfterTimeout(0, os.ErrDeadlineExceeded); waited || !errors.Is(err, udsipc.ErrConnectionClosed) ||
				!strings.HasSuffix(err.Error(), "a write fails by a timeout before its time: i/o timeout") {
				t.Errorf("%v, %v", waited, err)
			}
			time.Sleep(time.Nanosecond)
			if waited, err := o.AfterTimeout(0, os.ErrDeadlineExceeded); !waited || err != nil {
				t.Errorf("after %v: %v, %v", least, waited, err)
			}
			o.Close()
		}
	})
}

// TestOut_Stopped_IsNotAsked what its peer has read, since CloseAndAccount says it.
func TestOut_Stopped_IsNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := writtenOut(t)
		if !o.PeerHasRead(o.Written()) || !o.AllArrived() {
			t.Error("what was written to a pipe was not read")
		}
		_, _ = o.peer.Write([]byte{0})
		synctest.Wait()
		if o.PeerHasRead(0) || o.AllRead() || o.AllArrived() || o.Confirmed() != 0 {
			t.Errorf("it is asked, %d are confirmed", o.Confirmed())
		}
		if o.IsResumable() {
			t.Error("it may be written to")
		}
	})
}

// TestReadMarks_WindowBehindTwoMarks_IsRead: what lies a window behind two marks was read.
func TestReadMarks_WindowBehindTwoMarks_IsRead(t *testing.T) {
	got, recent := transport.ReadMarks(100, [2]int64{50, 1}, [2]int64{100, 2}, [2]int64{101, 3}, [2]int64{201, 4},
		[2]int64{202, 5}, [2]int64{303, 6}, [2]int64{500, 7})
	if want := []uint64{0, 0, 0, 0, 3, 5, 6}; !slices.Equal(got, want) || recent != 6 {
		t.Errorf("settled are %d, want %d; recent ones begin at %d", got, want, recent)
	}
	// Without a window nothing is settled. Recent is what may be in a reader's buffer.
	got, recent = transport.ReadMarks(0, [2]int64{50, 1}, [2]int64{1 << 19, 2}, [2]int64{1<<19 + 1, 3},
		[2]int64{1 << 20, 4})
	if got[3] != 0 || recent != 0 {
		t.Errorf("settled are %d without a window, recent ones begin at %d", got, recent)
	}
	if _, recent = transport.ReadMarks(0, [2]int64{1 << 20, 2}, [2]int64{2 << 20, 3}); recent != 2 {
		t.Errorf("recent ones begin at %d", recent)
	}
}
