// SPDX-License-Identifier: Apache-2.0

package sender_test

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// connectWithoutReading connects and reads nothing but the TLS handshake. It returns the socket, and
// the connection over it.
func connectWithoutReading(t *testing.T, on *ipctest.Route) (socket, speaking net.Conn) {
	t.Helper()
	speaking = on.Dial(t)
	if secure, ok := speaking.(*tls.Conn); ok {
		return secure.NetConn(), speaking
	}
	return speaking, speaking
}

// TestConn_CloseSlowPeer_EndsWithinWriteTimeout: a peer that does not read holds up Close no longer
// than WithWriteTimeout says, and the error tells what it cost, each time.
func TestConn_CloseSlowPeer_EndsWithinWriteTimeout(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		l := ipctest.ListenOn(t, on, udsipc.WithWriteTimeout(100*time.Millisecond))
		connectWithoutReading(t, on)
		conn := ipctest.Accept(t, l)
		for range 20 {
			if err := conn.WriteMessage(make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
		}
		reader := make(chan error, 1)
		go func() { _, err := conn.ReadMessage(); reader <- err }() // Ends with the connection.
		closed := make(chan error, 2)
		for range 2 {
			go func() { closed <- conn.Close() }() // Ends with the connection.
		}
		for range 2 {
			if err := ipctest.Await(t, "Close", closed); !errors.Is(err, udsipc.ErrBackpressure) ||
				!strings.Contains(err.Error(), " not sent within ") {
				t.Error(err)
			}
		}
		if err := ipctest.Await(t, "the reader", reader); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// TestConn_CloseWriteTLS_EndsWithinWriteTimeout, although the peer leaves no room for the notice of TLS.
func TestConn_CloseWriteTLS_EndsWithinWriteTimeout(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		l := ipctest.ListenOn(t, on, udsipc.WithWriteTimeout(50*time.Millisecond))
		connectWithoutReading(t, on)
		conn := ipctest.Accept(t, l)
		for range 20 {
			if err := conn.WriteMessage(make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
		}
		ended := make(chan error, 1)
		go func() { ended <- conn.CloseWrite() }() // Ends with the connection.
		err := ipctest.Await(t, "CloseWrite", ended)
		switch {
		case on.Secure && on.Tcp() && err == nil: // The kernel had room for it.
		case on.Secure && !errors.Is(err, udsipc.ErrBackpressure), !on.Secure && err != nil:
			t.Error(err)
		}
	})
}

// TestConn_CloseTCP_DeliversWhatWasSent: what was sent arrives, although this side leaves something
// unread, and although the peer reads only once it has sent what nobody wants.
func TestConn_CloseTCP_DeliversWhatWasSent(t *testing.T) {
	t.Parallel()
	const messages, size = 100, 64 << 10
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		if !on.Tcp() {
			t.Skip("a Unix socket that is closed takes nothing back, and says what it has not read")
		}
		l := ipctest.ListenOn(t, on, udsipc.WithWriteTimeout(10*time.Second))
		dialled, err := udsipc.Dial(t.Context(), on.Address, on.WriterOptions(t,
			udsipc.WithMaxBufferedWrites(1), udsipc.WithWriteTimeout(10*time.Second))...)
		if err != nil {
			t.Fatal(err)
		}
		defer dialled.Close()
		accepted := ipctest.Accept(t, l)
		for range messages {
			if err := accepted.WriteMessage(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
		}
		closed := make(chan error, 1)
		go func() { closed <- accepted.Close() }() // Ends when the peer's system has everything.
		for n := range messages {
			if err := dialled.WriteMessage(make([]byte, size)); err != nil { // It has room for one.
				t.Fatalf("message %d: %v", n, err)
			}
		}
		count := 0
		for _, err := range dialled.Messages() {
			if err != nil {
				t.Fatalf("after %d of %d messages: %v", count, messages, err)
			}
			count++
		}
		if err := ipctest.Await(t, "Close", closed); err != nil || count != messages {
			t.Errorf("%d of %d messages arrived, %v", count, messages, err)
		}
	})
}

// TestConn_CloseAfterFailure_ReportsUnsent tells how many messages were lost with the peer, which
// no other call has returned.
func TestConn_CloseAfterFailure_ReportsUnsent(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		l := ipctest.ListenOn(t, on)
		socket, _ := connectWithoutReading(t, on)
		conn := ipctest.Accept(t, l)
		for range 20 {
			if err := conn.WriteMessage(make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
		}
		socket.Close()
		ipctest.Until(t, "the loss is noticed", func() bool { return conn.Flush(t.Context()) != nil })
		for range 2 {
			if err := conn.Close(); !errors.Is(err, udsipc.ErrConnectionClosed) ||
				!strings.Contains(err.Error(), " not sent within ") {
				t.Error(err)
			}
		}
	})
}

// TestConn_TLSEndWithoutNotice_IsError: an end that the peer has not announced is an error, because
// anybody on the way can make one.
func TestConn_TLSEndWithoutNotice_IsError(t *testing.T) {
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		if !on.Secure {
			t.Skip("only TLS has a notice")
		}
		l := ipctest.ListenOn(t, on)
		for _, announced := range []bool{false, true} {
			socket, secure := connectWithoutReading(t, on)
			conn := ipctest.Accept(t, l)
			ipctest.MustWrite(t, secure, ipctest.Frames("whole"))
			if announced {
				secure.Close()
			}
			socket.Close()
			if got, err := conn.ReadMessage(); err != nil || string(got) != "whole" {
				t.Fatalf("%q, %v", got, err)
			}
			_, err := conn.ReadMessage()
			switch {
			case announced && err != io.EOF:
				t.Errorf("announced: %v", err)
			case !announced && (!errors.Is(err, udsipc.ErrConnectionClosed) ||
				!errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)):
				t.Errorf("not announced: %v", err)
			}
		}
	})
}

// TestConn_AnyEnd_ReadsEOF: whichever end says that it is over, and by whatever call, the other one reads io.EOF.
func TestConn_AnyEnd_ReadsEOF(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		l := ipctest.ListenOn(t, on)
		check := func(how string, conn *udsipc.Conn) {
			t.Helper()
			if data, err := conn.ReadMessage(); err != io.EOF {
				t.Errorf("%s: %q, %v", how, data, err)
			}
			conn.Close()
		}
		for accepts := range 2 {
			dialled, accepted := ipctest.Converse(t, l, on.Address, on.WriterOptions(t)...)
			ends := []*udsipc.Conn{dialled, accepted}
			ends[accepts].Close()
			check(fmt.Sprintf("Conn.Close of end %d", accepts), ends[1-accepts])
		}
		link := ipctest.StartLink(t, on.Address, func([]byte) {}, on.WriterOptions(t)...)
		accepted := ipctest.Accept(t, l)
		if err := link.WaitConnected(t.Context()); err != nil {
			t.Fatal(err)
		}
		stopped := make(chan error, 1)
		go func() { stopped <- link.Stop(t.Context()) }() // Ends with the connection.
		check("Link.Stop", accepted)
		if err := ipctest.Await(t, "Stop", stopped); err != nil {
			t.Error(err)
		}
		before := l.Metrics().Accepted
		pending, err := udsipc.Dial(t.Context(), on.Address, on.WriterOptions(t)...)
		if err != nil {
			t.Fatal(err)
		}
		defer pending.Close()
		// The kernel resets a connection that waits in a Unix listener's backlog when that closes.
		ipctest.Until(t, "the connection is accepted", func() bool { return l.Metrics().Accepted == before+1 })
		l.Close() // The program has not accepted it. TLS announces no end of what was not read.
		if _, err := pending.ReadMessage(); on.Secure != errors.Is(err, udsipc.ErrConnectionClosed) ||
			!on.Secure && err != io.EOF {
			t.Errorf("Listener.Close: %v", err)
		}
	})
}

// TestConn_CutInOversizedMessage_IsNotEOF: io.EOF is for the space between two messages, and not
// for one that is too large.
func TestConn_CutInOversizedMessage_IsNotEOF(t *testing.T) {
	large := append(binary.AppendUvarint(nil, 1000), make([]byte, 1000)...)
	path := ipctest.SocketPath(t)
	l := ipctest.Listen(t, path, udsipc.WithMaxMessageSize(100))
	for _, offset := range []int{1, 2, 3, 33, 34, 35, 500, 1001, 1002} {
		raw := ipctest.MustDial(t, path)
		conn := ipctest.Accept(t, l)
		ipctest.MustWrite(t, raw, large[:offset])
		raw.Close()
		_, err := conn.ReadMessage()
		if passed := offset >= 34; passed != errors.Is(err, udsipc.ErrMessageTooLarge) {
			t.Errorf("cut at %d: %v", offset, err)
		} else if passed {
			_, err = conn.ReadMessage()
		}
		switch whole := offset == len(large); {
		case whole && err != io.EOF:
			t.Errorf("cut at the end: %v", err)
		case !whole && (!errors.Is(err, udsipc.ErrConnectionClosed) || !errors.Is(err, io.ErrUnexpectedEOF)):
			t.Errorf("cut at %d: %v", offset, err)
		}
	}
}

// TestListener_CloseInCallback_Returns of the goroutine that accepts, as ErrorCallback allows.
func TestListener_CloseInCallback_Returns(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		t.Parallel()
		ready, closed := make(chan *udsipc.Listener, 1), make(chan error, 1)
		l := ipctest.ListenOn(t, on, udsipc.WithMaxConnections(1),
			udsipc.WithHandshakeTimeout(50*time.Millisecond),
			udsipc.WithReaderErrorCallback(func(err error, _ string) {
				if !errors.Is(err, udsipc.ErrTooManyConnections) {
					return
				}
				select {
				case l := <-ready:
					closed <- l.Close()
				default:
				}
			}))
		ready <- l
		ipctest.MustDial(t, on.Address)
		ipctest.Until(t, "one is too many", func() bool { // The one before it may be gone: its handshake has taken too long.
			network, name := ipctest.NetworkOf(on.Address)
			if conn, err := net.Dial(network, name); err == nil {
				t.Cleanup(func() { conn.Close() })
			}
			return len(ready) == 0
		})
		if err := ipctest.Await(t, "Close", closed); err != nil {
			t.Error(err)
		}
		if conn, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v, %v", conn, err)
		}
	})
}

// TestListener_Close_FreesAddress: another Listener can have it at once.
func TestListener_Close_FreesAddress(t *testing.T) { // Not beside tests that start processes: see whileInUse.
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		for range 20 {
			l, err := udsipc.Listen(on.Address, on.ReaderOptions(t)...)
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
