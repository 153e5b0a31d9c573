// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
)

// deaf connects by hand and reads nothing but what TLS begins with. It returns the socket, and what speaks on it.
func deaf(t *testing.T, on *route) (socket, speaking net.Conn) {
	t.Helper()
	speaking = on.dial(t)
	if secure, ok := speaking.(*tls.Conn); ok {
		return secure.NetConn(), speaking
	}
	return speaking, speaking
}

// listenOn returns a Listener that ends with the test.
func listenOn(t *testing.T, on *route, opts ...udsipc.ReaderOption) *udsipc.Listener {
	t.Helper()
	return listen(t, on.address, on.readerOptions(t, opts...)...)
}

// accept returns the next connection, which ends with the test.
func accept(t *testing.T, l *udsipc.Listener) *udsipc.Conn {
	t.Helper()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestCloseIsBounded: a peer that does not read holds up Close no longer than WithWriteTimeout says, and the error tells
// what it cost, each time.
func TestCloseIsBounded(t *testing.T) {
	overTransports(t, func(t *testing.T, on *route) {
		l := listenOn(t, on, udsipc.WithWriteTimeout(100*time.Millisecond))
		deaf(t, on)
		conn := accept(t, l)
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
			if err := await(t, "Close", closed); !errors.Is(err, udsipc.ErrBackpressure) || !strings.Contains(err.Error(), "messages were not sent") {
				t.Error(err)
			}
		}
		if err := await(t, "the reader", reader); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// TestCloseWriteIsBounded, although the peer leaves no room for the notice of TLS.
func TestCloseWriteIsBounded(t *testing.T) {
	overTransports(t, func(t *testing.T, on *route) {
		l := listenOn(t, on, udsipc.WithWriteTimeout(50*time.Millisecond))
		deaf(t, on)
		conn := accept(t, l)
		for range 20 {
			if err := conn.WriteMessage(make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
		}
		ended := make(chan error, 1)
		go func() { ended <- conn.CloseWrite() }() // Ends with the connection.
		err := await(t, "CloseWrite", ended)
		switch {
		case on.secure && !errors.Is(err, udsipc.ErrBackpressure), !on.secure && err != nil:
			t.Error(err)
		}
	})
}

// TestLinkStopIsBounded: a peer that does not read holds up Stop no longer than its context lasts.
func TestLinkStopIsBounded(t *testing.T) {
	overTransports(t, func(t *testing.T, on *route) {
		l := listenOn(t, on, udsipc.WithWriteTimeout(10*time.Millisecond))
		link := startLink(t, on.address, func([]byte) {}, on.writerOptions(t)...)
		accept(t, l) // And reads nothing.
		for range 20 {
			if err := link.WriteMessage(make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		stopped := make(chan error, 1)
		go func() { stopped <- link.Stop(ctx) }() // Ends with ctx.
		if err := await(t, "Stop", stopped); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// TestCloseOverTCP: what was sent arrives, although this side leaves something unread, and although the peer reads only
// once it has sent what nobody wants.
func TestCloseOverTCP(t *testing.T) {
	const messages, size = 100, 64 << 10
	overTransports(t, func(t *testing.T, on *route) {
		if !on.tcp() {
			t.Skip("a Unix socket that is closed takes nothing back, and says what it has not read")
		}
		l := listenOn(t, on, udsipc.WithWriteTimeout(10*time.Second))
		dialled, err := udsipc.Dial(t.Context(), on.address, on.writerOptions(t, udsipc.WithMaxBufferedWrites(1), udsipc.WithWriteTimeout(10*time.Second))...)
		if err != nil {
			t.Fatal(err)
		}
		defer dialled.Close()
		accepted := accept(t, l)
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
		if err := await(t, "Close", closed); err != nil || count != messages {
			t.Errorf("%d of %d messages arrived, %v", count, messages, err)
		}
	})
}

// TestCloseAfterALoss tells how many messages were lost with the peer, which no other call has returned.
func TestCloseAfterALoss(t *testing.T) {
	overTransports(t, func(t *testing.T, on *route) {
		l := listenOn(t, on)
		socket, _ := deaf(t, on)
		conn := accept(t, l)
		for range 20 {
			if err := conn.WriteMessage(make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
		}
		socket.Close()
		until(t, "the loss is noticed", func() bool { return conn.Flush(t.Context()) != nil })
		for range 2 {
			if err := conn.Close(); !errors.Is(err, udsipc.ErrConnectionClosed) || !strings.Contains(err.Error(), "messages were not sent") {
				t.Error(err)
			}
		}
	})
}

// TestEndOverTLS: an end that the peer has not announced is an error, because anybody on the way can make one.
func TestEndOverTLS(t *testing.T) {
	overTransports(t, func(t *testing.T, on *route) {
		if !on.secure {
			t.Skip("only TLS has a notice")
		}
		l := listenOn(t, on)
		for _, announced := range []bool{false, true} {
			socket, secure := deaf(t, on)
			conn := accept(t, l)
			mustWrite(t, secure, frames("whole"))
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
			case !announced && (!errors.Is(err, udsipc.ErrConnectionClosed) || !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)):
				t.Errorf("not announced: %v", err)
			}
		}
	})
}

// TestEndsAreAnnounced: whichever end says that it is over, and by whatever call, the other one reads io.EOF.
func TestEndsAreAnnounced(t *testing.T) {
	overTransports(t, func(t *testing.T, on *route) {
		l := listenOn(t, on)
		check := func(how string, conn *udsipc.Conn) {
			t.Helper()
			if data, err := conn.ReadMessage(); err != io.EOF {
				t.Errorf("%s: %q, %v", how, data, err)
			}
			conn.Close()
		}
		for accepts := range 2 {
			dialled, accepted := converse(t, l, on.address, on.writerOptions(t)...)
			ends := []*udsipc.Conn{dialled, accepted}
			ends[accepts].Close()
			check(fmt.Sprintf("Conn.Close of end %d", accepts), ends[1-accepts])
		}
		link := startLink(t, on.address, func([]byte) {}, on.writerOptions(t)...)
		accepted := accept(t, l)
		if err := link.WaitConnected(t.Context()); err != nil {
			t.Fatal(err)
		}
		stopped := make(chan error, 1)
		go func() { stopped <- link.Stop(t.Context()) }() // Ends with the connection.
		check("Link.Stop", accepted)
		if err := await(t, "Stop", stopped); err != nil {
			t.Error(err)
		}
		pending, err := udsipc.Dial(t.Context(), on.address, on.writerOptions(t)...)
		if err != nil {
			t.Fatal(err)
		}
		defer pending.Close()
		l.Close() // Nobody has accepted it. TLS announces no end of what was not read.
		if _, err := pending.ReadMessage(); on.secure != errors.Is(err, udsipc.ErrConnectionClosed) || !on.secure && err != io.EOF {
			t.Errorf("Listener.Close: %v", err)
		}
	})
}

// TestCutWhilePassingOver: io.EOF is for the space between two messages, and not for one that is too large.
func TestCutWhilePassingOver(t *testing.T) {
	large := append(binary.AppendUvarint(nil, 1000), make([]byte, 1000)...)
	path := socketPath(t)
	l := listen(t, path, udsipc.WithMaxMessageSize(100))
	for _, offset := range []int{1, 2, 3, 33, 34, 35, 500, 1001, 1002} {
		raw := mustDial(t, path)
		conn := accept(t, l)
		mustWrite(t, raw, large[:offset])
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

// TestPassingOverHasATime: a message over the limit comes no slower than one within it may.
func TestPassingOverHasATime(t *testing.T) {
	for name, test := range map[string]struct {
		opt   udsipc.ReaderOption
		first []byte
	}{
		"WithMessageTimeout":      {udsipc.WithMessageTimeout(3 * time.Second), frames("before")},
		"WithFirstMessageTimeout": {udsipc.WithFirstMessageTimeout(3 * time.Second), nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := new(simNet)
				l := listen(t, "x", udsipc.WithListener(n.listen()), udsipc.WithMessageTimeout(0), udsipc.WithInactivityTimeout(2*time.Second), test.opt)
				raw, err := n.dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				conn := accept(t, l)
				began := time.Now()
				var peer sync.WaitGroup
				peer.Go(func() { // Ends with the connection.
					mustWrite(t, raw, append(append(test.first, binary.AppendUvarint(nil, 1<<40)...), make([]byte, 40)...))
					for {
						time.Sleep(time.Second / 3)
						if _, err := raw.Write([]byte{0}); err != nil {
							return
						}
					}
				})
				for err = nil; err == nil || errors.Is(err, udsipc.ErrMessageTooLarge); {
					_, err = conn.ReadMessage()
				}
				if took := time.Since(began); !errors.Is(err, udsipc.ErrTooSlow) || took != 3*time.Second {
					t.Errorf("after %v: %v", took, err)
				}
				conn.Close()
				peer.Wait()
			})
		})
	}
}

// TestManyPassedOver: the time of a message is its own, and not that of all that are too large in a row.
func TestManyPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(simNet)
		l := listen(t, "x", udsipc.WithListener(n.listen()), udsipc.WithMessageTimeout(3*time.Second), udsipc.WithMaxMessageSize(100))
		raw, err := n.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		conn := accept(t, l)
		const messages = 20
		go func() { // Ends with the messages.
			large := append(binary.AppendUvarint(nil, 1000), make([]byte, 1000)...)
			stream := append(bytes.Repeat(large, messages), frames("the end")...)
			for ; len(stream) > 700; stream = stream[700:] { // Never between two.
				mustWrite(t, raw, stream[:700])
				time.Sleep(time.Second)
			}
			mustWrite(t, raw, stream)
		}()
		tooLarge := 0
		for {
			data, err := conn.ReadMessage()
			if err == nil {
				if string(data) != "the end" || tooLarge != messages {
					t.Errorf("%q after %d messages", data, tooLarge)
				}
				break
			}
			if tooLarge++; !errors.Is(err, udsipc.ErrMessageTooLarge) {
				t.Fatal(err)
			}
		}
		conn.Close()
		raw.Close()
	})
}

// TestListenerClosesInACallback of the goroutine that accepts, as ErrorCallback allows.
func TestListenerClosesInACallback(t *testing.T) {
	overTransports(t, func(t *testing.T, on *route) {
		ready, closed := make(chan *udsipc.Listener, 1), make(chan error, 1)
		l := listenOn(t, on, udsipc.WithMaxConnections(1), udsipc.WithHandshakeTimeout(50*time.Millisecond), udsipc.WithReaderErrorCallback(func(err error, _ string) {
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
		mustDial(t, on.address)
		mustDial(t, on.address)
		if err := await(t, "Close", closed); err != nil {
			t.Error(err)
		}
		if conn, err := l.Accept(); err == nil {
			conn.Close() // It was there before.
			_, err = l.Accept()
			if !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		} else if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// TestAddressIsFreeAfterClose: another Listener can have it at once.
func TestAddressIsFreeAfterClose(t *testing.T) {
	overTransports(t, func(t *testing.T, on *route) {
		for range 20 {
			if err := listenOn(t, on).Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestLinkBackoff: connections that bring a message and end at once are made ever more slowly, up to a bound; those that
// bring nothing, up to WithMaxBackoff; and one that lives for a second makes up for all.
func TestLinkBackoff(t *testing.T) {
	for name, test := range map[string]struct {
		says     string
		lives    time.Duration
		min, max int
	}{
		"a word and the end":    {"denied", 0, 60 * 1000 / 160, 3000},
		"the end":               {"", 0, 5, 200},
		"a word after a second": {"bye", time.Second, 58, 60},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := new(simNet)
				l := listen(t, "x", udsipc.WithListener(n.listen()))
				connections := 0
				done := make(chan struct{})
				go func() { // Ends with the Listener.
					defer close(done)
					for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
						connections++
						time.Sleep(test.lives)
						if test.says != "" {
							_ = conn.WriteMessage([]byte(test.says))
						}
						conn.Close()
					}
				}()
				link, err := udsipc.NewLink("x", func([]byte) {}, udsipc.WithDialer(n.dial))
				if err != nil {
					t.Fatal(err)
				}
				if err := link.Start(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				stop(t, link)
				l.Close()
				<-done
				if connections < test.min || connections > test.max {
					t.Errorf("%d connections in a minute, want %d to %d", connections, test.min, test.max)
				}
			})
		})
	}
}

// TestLinkReadsAfterALoss: what the peer had sent is handled, although writing to it has failed by then.
func TestLinkReadsAfterALoss(t *testing.T) {
	const messages = 20
	overTransports(t, func(t *testing.T, on *route) {
		if runtime.GOOS != "linux" {
			t.Skip("elsewhere a reset takes what was not read")
		}
		if !on.bare() {
			t.Skip("the kernel is that of a bare socket")
		}
		l := on.listen(t)
		handled, release := make(chan int, messages), make(chan struct{})
		link := startLink(t, on.address, func(data []byte) {
			<-release
			handled <- int(data[0])
		}, on.writerOptions(t)...)
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		if err := link.WriteMessage([]byte("nobody reads this")); err != nil {
			t.Fatal(err)
		}
		if err := link.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for n := range messages {
			mustWrite(t, conn, frames(string(append([]byte{byte(n)}, make([]byte, 1000)...))))
		}
		if on.tcp() {
			until(t, "the system has taken everything", func() bool { return udsipc.HasRead(conn) })
		}
		conn.Close() // It resets the connection, because of what nobody has read.
		for range 3 {
			_ = link.WriteMessage([]byte("nobody takes this"))
		}
		close(release)
		for n := range messages {
			if got := await(t, fmt.Sprintf("message %d", n), handled); got != n {
				t.Fatalf("message %d, want %d", got, n)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = link.Stop(ctx) // Nobody is there for the rest.
	})
}

// TestLinkStopTellsOfAHandler that has not returned when the context ends.
func TestLinkStopTellsOfAHandler(t *testing.T) {
	path := socketPath(t)
	l := listen(t, path)
	entered, release := make(chan struct{}), make(chan struct{})
	link := startLink(t, path, func([]byte) { close(entered); <-release })
	if err := accept(t, l).WriteMessage([]byte("work")); err != nil {
		t.Fatal(err)
	}
	await(t, "the handler", entered)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := link.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	close(release)
	if err := link.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestFlushAfterTheEnd says that what was given up was not sent.
func TestFlushAfterTheEnd(t *testing.T) {
	link, err := udsipc.NewLink(socketPath(t), func([]byte) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := link.WriteMessage([]byte("never")); err != nil {
		t.Fatal(err)
	}
	if err := link.Stop(t.Context()); err == nil {
		t.Error("Stop has lost a message without an error")
	}
	if err := link.Flush(t.Context()); !errors.Is(err, udsipc.ErrStopped) {
		t.Errorf("Flush: %v", err)
	}
}

// TestReadDeadlineWithoutMemory ends a wait for memory like any other, one that is under way included.
func TestReadDeadlineWithoutMemory(t *testing.T) {
	const connections, size = 4, 1 << 20
	overTransports(t, func(t *testing.T, on *route) {
		l := listenOn(t, on, udsipc.WithReadMemory(1<<20))
		var conns []*udsipc.Conn
		ended := make(chan error, 2*connections)
		var peers sync.WaitGroup
		defer peers.Wait()
		for range connections {
			raw := on.dial(t)
			defer raw.Close()
			peers.Go(func() { // Ends with the connection.
				_, _ = raw.Write(append(binary.AppendUvarint(nil, size), make([]byte, size-1)...))
			})
			conn := accept(t, l)
			conns = append(conns, conn)
			go func() { // Ends with the deadline.
				for range 2 {
					_, err := conn.ReadMessage()
					ended <- err
				}
			}()
		}
		until(t, "some wait for memory", func() bool { return l.Metrics().MemoryWaits > 0 })
		for _, conn := range conns {
			if err := conn.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 * connections {
			if err := await(t, "ReadMessage", ended); !isTimeout(err) {
				t.Error(err)
			}
		}
	})
}

// TestDroppedIsCounted: each message that was accepted arrives, or is one of those.
func TestDroppedIsCounted(t *testing.T) {
	const messages = 1000
	path := socketPath(t)
	l := listen(t, path)
	opts := []udsipc.WriterOption{udsipc.WithOverflow(udsipc.OverflowDropOldest), udsipc.WithMaxBufferedWrites(3)}
	dialled, accepted := converse(t, l, path, opts...)
	link, err := udsipc.NewLink(path, func([]byte) {}, opts...)
	if err != nil {
		t.Fatal(err)
	}
	accepts := 0
	for range messages {
		if err := dialled.WriteMessage(make([]byte, 10_000)); err == nil {
			accepts++
		} else if !errors.Is(err, udsipc.ErrBufferFull) { // What is being written is not dropped.
			t.Fatal(err)
		}
		if _, err := link.Send([]byte("away")); err != nil {
			t.Fatal(err)
		}
	}
	if n := link.Dropped(); n != messages-3 || link.Sent() != n {
		t.Errorf("%d of the Link are dropped, and up to %d sent", n, link.Sent())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = link.Stop(ctx) // Nobody gets the rest.
	if number, err := link.Send(nil); number != 0 || !errors.Is(err, udsipc.ErrStopped) {
		t.Errorf("message %d, %v", number, err)
	}
	closed := make(chan error, 1)
	go func() { closed <- dialled.Close() }() // Ends with the messages.
	arrived := 0
	for _, err := range accepted.Messages() {
		if err != nil {
			t.Fatal(err)
		}
		arrived++
	}
	if err := await(t, "Close", closed); err != nil {
		t.Error(err)
	}
	if dropped := dialled.Dropped(); dropped == 0 || uint64(arrived)+dropped != uint64(accepts) {
		t.Errorf("%d messages arrived, %d are dropped, of %d", arrived, dropped, accepts)
	}
}

// TestLinkHandlerEndsItsGoroutine: the connection ends with it, and Stop says what is left.
func TestLinkHandlerEndsItsGoroutine(t *testing.T) {
	path := socketPath(t)
	l := listen(t, path)
	link := startLink(t, path, func([]byte) { runtime.Goexit() })
	conn := accept(t, l)
	if err := conn.WriteMessage([]byte("the last")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ReadMessage(); err != io.EOF {
		t.Error(err)
	}
	until(t, "the Link has stopped", func() bool { return link.State() == udsipc.StateStopped })
	if err := link.WaitConnected(t.Context()); !errors.Is(err, udsipc.ErrStopped) {
		t.Error(err)
	}
}

// TestDeadlinesAreApart: the reader's own deadline neither hides what the Listener puts up with, nor passes for it.
func TestDeadlinesAreApart(t *testing.T) {
	for name, test := range map[string]struct {
		set  func(c *udsipc.Conn) // A second after the wait has begun.
		want error
		at   time.Duration
	}{
		"never":           {func(c *udsipc.Conn) { _ = c.SetReadDeadline(time.Time{}) }, udsipc.ErrTooSlow, 3 * time.Second},
		"later":           {func(c *udsipc.Conn) { _ = c.SetReadDeadline(time.Now().Add(time.Hour)) }, udsipc.ErrTooSlow, 3 * time.Second},
		"sooner":          {func(c *udsipc.Conn) { _ = c.SetReadDeadline(time.Now().Add(time.Second)) }, os.ErrDeadlineExceeded, 2 * time.Second},
		"past, and never": {func(c *udsipc.Conn) { _ = c.SetReadDeadline(time.Unix(1, 0)); _ = c.SetReadDeadline(time.Time{}) }, udsipc.ErrTooSlow, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := new(simNet)
				l := listen(t, "x", udsipc.WithListener(n.listen()), udsipc.WithMessageTimeout(3*time.Second))
				raw, err := n.dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				mustWrite(t, raw, frames("whole")[:3])
				conn := accept(t, l)
				began := time.Now()
				time.AfterFunc(time.Second, func() { test.set(conn) })
				_, err = conn.ReadMessage()
				if took := time.Since(began); !errors.Is(err, test.want) || errors.Is(err, udsipc.ErrTooSlow) != (test.want == udsipc.ErrTooSlow) || took != test.at {
					t.Errorf("after %v: %v", took, err)
				}
				conn.Close()
				raw.Close()
			})
		})
	}
}
