// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/wire"
)

// TestSession_HigherEpoch_FencesOwner: a second connection of a writer ends the first, waits for
// the handler that runs, and gets the true number. What lies in the first one's buffer is not
// handled.
func TestSession_HigherEpoch_FencesOwner(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		t.Parallel()
		entered, leave := make(chan string, 10), make(chan struct{})
		r := on.StartReader(t, func(data []byte) error {
			entered <- string(data)
			if string(data) == "slow" {
				<-leave
			}
			return nil
		})
		id := udsipc.WriterID{1}
		first := on.Dial(t)
		w := ipctest.SayHello(t, first,
			wire.Hello{Writer: wire.WriterID(id), Epoch: 1, FirstSeq: 1}, "one", "slow", "three",
			"four")
		if w.Handled != 0 || w.Limit != 10<<20 {
			t.Errorf("the first welcome is %+v", w)
		}
		ipctest.Await(t, "one", entered)
		ipctest.Await(t, "slow", entered)
		second := on.Dial(t)
		before := r.Metrics().ReceivedBytes
		hello := wire.Hello{Writer: wire.WriterID(id), Epoch: 2, FirstSeq: 1, LastSentSeq: 4}.Append(nil)
		ipctest.MustWrite(t, second, hello)
		ipctest.Until(t, "the hello is read", func() bool { return r.Metrics().ReceivedBytes >= before+uint64(len(hello)) })
		second.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if n, err := second.Read(make([]byte, 1)); n > 0 ||
			!errors.Is(err, context.DeadlineExceeded) && !ipctest.IsTimeout(err) {
			t.Errorf("%d bytes came before the handler had returned, %v", n, err)
		}
		close(leave)
		if w := ipctest.AwaitWelcome(t, second); w.Handled != 2 {
			t.Errorf("the second welcome is %+v, want 2 handled", w)
		}
		ipctest.MustWrite(t, second, ipctest.Frames("three", "four"))
		ipctest.AwaitAck(t, second, 4)
		ipctest.Until(t, "the first connection is gone", func() bool { return r.Metrics().Connections == 1 })
		data := ipctest.Await(t, "three", entered) + ipctest.Await(t, "four", entered)
		if data != "threefour" || len(entered) > 0 {
			t.Errorf("%q was handled, and %d more", data, len(entered))
		}
		if m := r.Metrics(); m.Received != 4 || m.DuplicatesSuppressed != 2 || m.Sessions != 2 || m.WriterStates != 1 {
			t.Errorf("%+v, want 4 received, 2 suppressed", m)
		}
		first.Close()
	})
}

// TestSession_LowerEpoch_IsRejected: the hello of an older connection does not take over.
func TestSession_LowerEpoch_IsRejected(t *testing.T) {
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		errs := ipctest.Collect()
		got := make(chan string, 10)
		on.StartReader(t, func(data []byte) error { got <- string(data); return nil },
			udsipc.WithReaderErrorCallback(errs.Callback))
		id := udsipc.WriterID{1}
		conn := on.Dial(t)
		ipctest.SayHello(t, conn, wire.Hello{Writer: wire.WriterID(id), Epoch: 5, FirstSeq: 1}, "one")
		ipctest.AwaitAck(t, conn, 1)
		for _, attempt := range []uint64{4, 5, 1} {
			late := on.Dial(t)
			ipctest.MustWrite(t, late, wire.Hello{Writer: wire.WriterID(id), Epoch: attempt, FirstSeq: 1}.Append(nil))
			errs.Want(t, udsipc.ErrInvalidSession)
			answer, _ := io.ReadAll(late)
			if want := []byte{5, 1, 2, 0, 0, 0}; !slices.Equal(answer, want) {
				t.Errorf("attempt %d is answered % x, want % x", attempt, answer, want)
			}
		}
		ipctest.MustWrite(t, conn, ipctest.Frames("two"))
		ipctest.AwaitAck(t, conn, 2)
		if data := ipctest.Await(t, "one", got) + ipctest.Await(t, "two", got); data != "onetwo" {
			t.Errorf("got %q", data)
		}
	})
}

// waitInLine says hello and returns when the reader has taken notice: it sends heartbeats while an older
// connection keeps it from answering.
func waitInLine(tb testing.TB, path string, h wire.Hello) net.Conn {
	tb.Helper()
	h.HeartbeatTimeout = 100 * time.Millisecond
	conn := ipctest.MustDial(tb, path)
	ipctest.MustWrite(tb, conn, h.Append(nil))
	b := make([]byte, 2)
	if _, err := io.ReadFull(conn, b); err != nil || b[0] != 0x80 || b[1] != 0 {
		tb.Fatalf("got % x, %v; want a heartbeat", b, err)
	}
	return conn
}

// TestSession_ThreeConnections_NewestWins: of three connections of one writer the newest is welcome, and it alone.
func TestSession_ThreeConnections_NewestWins(t *testing.T) {
	path := ipctest.SocketPath(t)
	entered, leave := make(chan struct{}, 10), make(chan struct{})
	r := ipctest.StartReader(t, func([]byte) error { entered <- struct{}{}; <-leave; return nil }, path)
	ipctest.OpenSession(t, path, wire.Hello{Epoch: 1, FirstSeq: 1}, "slow", "second")
	ipctest.Await(t, "the handler", entered)
	var conns []net.Conn
	for attempt := uint64(2); attempt <= 3; attempt++ {
		conns = append(conns, waitInLine(t, path, wire.Hello{Epoch: attempt, FirstSeq: 1, LastSentSeq: 2}))
	}
	close(leave)
	if w := ipctest.AwaitWelcome(t, conns[1]); w.Status != 0 || w.Handled != 1 {
		t.Errorf("the newest is told %+v", w)
	}
	answer, _ := io.ReadAll(conns[0])
	for len(answer) >= 2 && answer[0] == 0x80 {
		answer = answer[2:]
	}
	if want := []byte{5, 1, 2, 0, 0, 0}; !slices.Equal(answer, want) {
		t.Errorf("the one before is answered % x, want % x", answer, want)
	}
	ipctest.MustWrite(t, conns[1], ipctest.Frames("second"))
	ipctest.AwaitAck(t, conns[1], 2)
	if m := r.Metrics(); m.Received != 2 || m.Sessions != 2 {
		t.Errorf("%+v", m)
	}
}
