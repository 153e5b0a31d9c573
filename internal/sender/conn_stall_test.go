// SPDX-License-Identifier: Apache-2.0

package sender_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/seam"
)

// overStallingConversations is overConversations over Unix sockets, TCP, and TLS over both, with
// options for the accepting side.
func overStallingConversations(t *testing.T, opts []udsipc.ReaderOption,
	test func(t *testing.T, l *udsipc.Listener, dialled, accepted *udsipc.Conn)) {
	overStallPlaces(t, func(t *testing.T, listen func(...udsipc.ReaderOption) *udsipc.Listener,
		converse func(*udsipc.Listener) (dialled, accepted *udsipc.Conn)) {
		l := listen(opts...)
		dialled, accepted := converse(l)
		test(t, l, dialled, accepted)
	})
}

// overStallPlaces runs a test over the same, which may listen several times.
func overStallPlaces(t *testing.T, test func(t *testing.T, listen func(...udsipc.ReaderOption) *udsipc.Listener,
	converse func(*udsipc.Listener) (dialled, accepted *udsipc.Conn))) {
	for _, secure := range []bool{false, true} {
		for name, address := range map[string]string{"unix": ipctest.SocketPath(t), "tcp": ipctest.TcpAddress(t)} {
			if secure {
				name += ", tls"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var theirs []udsipc.ReaderOption
				var ours []udsipc.WriterOption
				if secure {
					server, client := ipctest.NewAuthority(t).Configs(t)
					theirs, ours = append(theirs, udsipc.WithTLS(server)), append(ours, udsipc.WithTLS(client))
				}
				test(t, func(opts ...udsipc.ReaderOption) *udsipc.Listener {
					return ipctest.Listen(t, address, append(opts, theirs...)...)
				}, func(l *udsipc.Listener) (dialled, accepted *udsipc.Conn) {
					return ipctest.Converse(t, l, address, ours...)
				})
			})
		}
	}
}

// overStallTimes runs a test with longer and longer stall times, until the machine was not busier
// than that: try returns whether the peer, which the test plays, was not late.
func overStallTimes(t *testing.T, stall time.Duration, try func(stall time.Duration) bool) {
	t.Helper()
	for ; !try(stall); stall *= 2 {
		if stall > 10*time.Second {
			t.Fatalf("the peer is late although it has %v", stall)
		}
	}
}

// A paced peer takes something about six times in each stall time.
type pacedPeer struct {
	stall, longest time.Duration
	last           time.Time
}

func newPacedPeer(stall time.Duration) *pacedPeer { return &pacedPeer{stall: stall, last: time.Now()} }

// took notes that the peer has taken something, and waits.
func (p *pacedPeer) took() {
	now := time.Now()
	p.longest, p.last = max(p.longest, now.Sub(p.last)), now
	time.Sleep(p.stall / 6)
}

// onTime reports whether it was never late.
func (p *pacedPeer) onTime() bool { return max(p.longest, time.Since(p.last)) < p.stall/2 }

// TestConn_StallTimeout_EndsStalledPeer ends the connection of a peer that takes nothing, and of no other.
func TestConn_StallTimeout_EndsStalledPeer(t *testing.T) {
	t.Parallel()
	overStallPlaces(t, func(t *testing.T, listen func(...udsipc.ReaderOption) *udsipc.Listener,
		converse func(*udsipc.Listener) (dialled, accepted *udsipc.Conn)) {
		overStallTimes(t, 100*time.Millisecond, func(stall time.Duration) bool {
			l := listen(udsipc.WithStallTimeout(stall), udsipc.WithWriteTimeout(10*time.Millisecond))
			defer l.Close()
			dialled, accepted := converse(l)
			defer dialled.Close()
			return checkStall(t, stall, l, dialled, accepted)
		})
	})
}

// checkStall reads like a slow peer, then no more. It returns false if it was slower than that.
func checkStall(t *testing.T, stall time.Duration, l *udsipc.Listener, dialled, accepted *udsipc.Conn) bool {
	ended := make(chan error, 1)
	go func() { _, err := accepted.ReadMessage(); ended <- err }() // Ends with the connection.
	const messages, size = 48, 1 << 20                             // More than the kernel holds.
	go func() {                                                    // Ends when all is queued, or with the connection.
		for range messages {
			_ = accepted.WriteMessage(make([]byte, size)) // What becomes of them is not the question.
		}
	}()
	peer := newPacedPeer(stall)
	for range messages / 6 { // Whoever reads is not left, although all of it takes longer than the timeout.
		if _, err := dialled.ReadMessage(); err != nil {
			if !peer.onTime() {
				return false
			}
			t.Fatal(err)
		}
		peer.took()
	}
	select {
	case err := <-ended:
		if !peer.onTime() {
			return false
		}
		t.Fatalf("a peer that reads is left: %v", err)
	default:
	}
	if err := ipctest.Await(t, "the end", ended); !errors.Is(err, udsipc.ErrBackpressure) ||
		!errors.Is(err, udsipc.ErrConnectionClosed) {
		t.Errorf("reading: %v", err)
	}
	if err := accepted.WriteMessage(nil); !errors.Is(err, udsipc.ErrBackpressure) {
		t.Errorf("writing: %v", err)
	}
	if n := l.Metrics().Stalled; n != 1 {
		t.Errorf("%d connections are counted as stalled", n)
	}
	return true
}

// TestConn_WriteControl_PassesFullQueue are taken although the queue is full, and arrive in order.
func TestConn_WriteControl_PassesFullQueue(t *testing.T) {
	t.Parallel()
	opts := []udsipc.ReaderOption{udsipc.WithMaxBufferedWrites(4), udsipc.WithWriteTimeout(10 * time.Millisecond)}
	overStallingConversations(t, opts, func(t *testing.T, _ *udsipc.Listener, dialled, accepted *udsipc.Conn) {
		count := 0
		for ; accepted.TryWriteMessage(make([]byte, 1<<20)) == nil; count++ {
		}
		inner := seam.OfConn(accepted)
		room := inner.Room()
		if room == nil {
			t.Fatal("the queue is full, and has room")
		}
		for range 10 {
			if err := inner.WriteControl([]byte("control")); err != nil {
				t.Fatal(err)
			}
		}
		for n := range count + 10 {
			data, err := dialled.ReadMessage()
			if err != nil || n < count && len(data) != 1<<20 || n >= count && string(data) != "control" {
				t.Fatalf("message %d of %d and 10: %d bytes, %v", n, count, len(data), err)
			}
		}
		<-room
		if inner.Room() != nil {
			t.Error("the queue is empty, and has no room")
		}
	})
}

// TestConn_InactivityTimeout_CountsBothDirections: a connection that this side uses is not idle.
func TestConn_InactivityTimeout_CountsBothDirections(t *testing.T) {
	t.Parallel()
	const idle = 50 * time.Millisecond
	path := ipctest.SocketPath(t)
	_, accepted := ipctest.Converse(t, ipctest.Listen(t, path, udsipc.WithInactivityTimeout(idle)), path)
	asked := 0
	seam.OfConn(accepted).KeepOpen(func() bool { asked++; return asked <= 3 })
	began := time.Now()
	if _, err := accepted.ReadMessage(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if d := time.Since(began); asked != 4 || d < 4*idle {
		t.Errorf("ended after %v, asked %d times", d, asked)
	}
}

// TestConn_ReadDeadlineInMessage_CanContinue is no fault of the peer's: reading goes on after it.
func TestConn_ReadDeadlineInMessage_CanContinue(t *testing.T) {
	path := ipctest.SocketPath(t)
	l := ipctest.Listen(t, path)
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if _, err := conn.Write([]byte("\x04ab")); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { _, err := accepted.ReadMessage(); ended <- err }() // Ends with the deadline.
	for l.Metrics().Reads < 2 {                                    // It has read the half, and waits for the rest.
		runtime.Gosched()
	}
	if err := accepted.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := ipctest.Await(t, "the deadline", ended); !errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.Is(err, udsipc.ErrTooSlow) {
		t.Errorf("in the middle of a message: %v", err)
	}
	if err := accepted.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("cd")); err != nil {
		t.Fatal(err)
	}
	if data, err := accepted.ReadMessage(); err != nil || string(data) != "abcd" {
		t.Errorf("%q, %v", data, err)
	}
}

// TestConn_ReturnReadMemory_KeepsBytes gives back the memory of what was read, and keeps the bytes.
func TestConn_ReturnReadMemory_KeepsBytes(t *testing.T) {
	path := ipctest.SocketPath(t)
	l := ipctest.Listen(t, path)
	dialled, accepted := ipctest.Converse(t, l, path)
	const messages, size = 400, 1000
	for range messages {
		if err := dialled.WriteMessage(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	kept := 0
	for n := range messages {
		if data, err := accepted.ReadMessage(); err != nil || len(data) != size {
			t.Fatalf("message %d: %d bytes, %v", n, len(data), err)
		}
		kept += seam.OfConn(accepted).ReturnReadMemory()
		if used := l.Metrics().ReadMemory; used != 0 {
			t.Fatalf("%d bytes are on loan", used)
		}
	}
	if kept == 0 {
		t.Error("nothing was ever kept")
	}
}

// TestLink_ControlMessages_AreDroppedWithConnection do not wait for the next one if nothing else does.
func TestLink_ControlMessages_AreDroppedWithConnection(t *testing.T) {
	for _, ordinary := range []bool{false, true} {
		path := ipctest.SocketPath(t)
		l := ipctest.Listen(t, path)
		lost := make(chan struct{}, 10)
		link, err := udsipc.NewLink(path, func([]byte) {}, udsipc.WithStateCallback(func(state udsipc.State, _ error) {
			if state == udsipc.StateDisconnected {
				lost <- struct{}{}
			}
		}))
		if err != nil {
			t.Fatal(err)
		}
		if err := link.Start(); err != nil {
			t.Fatal(err)
		}
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		for n := range 100 { // More than the socket holds.
			send := seam.OfLink(link).SendControl
			if ordinary && n == 99 {
				send = seam.OfLink(link).SendUnbounded
			}
			if _, err := send(make([]byte, 50_000)); err != nil {
				t.Fatal(err)
			}
		}
		l.Close()
		accepted.Close()
		ipctest.Await(t, "the loss", lost)
		if n := link.Dropped(); n != 0 { // Nobody misses them.
			t.Errorf("%d messages were dropped to make room", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if ordinary {
			cancel() // It would wait for somebody to take the message.
		}
		if err := link.Stop(ctx); (err != nil) != ordinary {
			t.Errorf("an ordinary message behind them %v: %v", ordinary, err)
		}
		cancel()
	}
}

// A narrowListener accepts TCP connections whose kernel holds little.
type narrowListener struct{ net.Listener }

func (l narrowListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		err = conn.(*net.TCPConn).SetWriteBuffer(16 << 10)
	}
	return conn, err
}

// TestConn_CloseSlowPeerWithProgress_DoesNotStall: a write that takes longer than the stall time,
// with progress, is none that stalls, also while Close throws away what the peer sends.
func TestConn_CloseSlowPeerWithProgress_DoesNotStall(t *testing.T) {
	t.Parallel()
	overStallTimes(t, 400*time.Millisecond, func(stall time.Duration) bool { return closeSlowPeer(t, stall) })
}

// closeSlowPeer returns false if the peer was slower than it should be.
func closeSlowPeer(t *testing.T, stall time.Duration) bool {
	const messages, size = 8, 100_000
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := ipctest.Listen(t, "tcp://127.0.0.1:0", udsipc.WithListener(narrowListener{inner}),
		udsipc.WithStallTimeout(stall), udsipc.WithWriteTimeout(time.Minute))
	defer l.Close()
	peer, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if err := peer.(*net.TCPConn).SetReadBuffer(16 << 10); err != nil {
		t.Fatal(err)
	}
	conn := ipctest.Accept(t, l)
	var got int64
	pace := newPacedPeer(stall)
	ended := make(chan struct{})
	go func() { // Ends with the connection.
		defer close(ended)
		for {
			_, _ = peer.Write([]byte{1, 1}) // Nobody reads that.
			n, err := io.CopyN(io.Discard, peer, size/2)
			if got += n; err != nil {
				return
			}
			pace.took()
		}
	}()
	for range messages {
		if writeErr := conn.WriteMessage(make([]byte, size)); writeErr != nil {
			err = writeErr
		}
	}
	err = errors.Join(err, conn.Close())
	if ipctest.Await(t, "the end", ended); err == nil && got >= messages*size {
		return true
	}
	if !pace.onTime() {
		return false
	}
	t.Errorf("%d bytes of %d arrived, %v", got, messages*size, err)
	return true
}

// TestLink_StallTimeout_IsReported: the error callback and the state callback are told why the connection has ended.
func TestLink_StallTimeout_IsReported(t *testing.T) {
	for _, on := range []string{"unix", "tcp"} {
		t.Run(on, func(t *testing.T) {
			t.Parallel()
			address := ipctest.SocketPath(t)
			if on == "tcp" {
				address = ipctest.TcpAddress(t)
			}
			l := ipctest.Listen(t, address)
			errs, causes := ipctest.Collect(), make(chan error, 10)
			link := ipctest.StartLink(t, address, func([]byte) {}, udsipc.WithStallTimeout(50*time.Millisecond),
				udsipc.WithWriterErrorCallback(errs.Callback), udsipc.WithStateCallback(func(state udsipc.State, cause error) {
					if state == udsipc.StateDisconnected {
						select {
						case causes <- cause:
						default:
						}
					}
				}))
			ipctest.Accept(t, l) // And reads nothing.
			for range 20 {
				if err := link.WriteMessage(make([]byte, 1<<20)); err != nil {
					t.Fatal(err)
				}
			}
			cause := ipctest.Await(t, "the end", causes)
			if !errors.Is(cause, udsipc.ErrBackpressure) || !errors.Is(cause, udsipc.ErrConnectionClosed) {
				t.Errorf("the cause is %v", cause)
			}
			if err := errs.Want(t, udsipc.ErrBackpressure).(*udsipc.OpError); err.Op != udsipc.OpWrite {
				t.Errorf("reported: %v", err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_ = link.Stop(ctx) // Nobody reads the rest.
		})
	}
}
