// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// overConversations runs a test over each transport, and over TLS.
func overConversations(t *testing.T, test func(t *testing.T, dialled, accepted *udsipc.Conn)) {
	patient := udsipc.WithWriteTimeout(30 * time.Second) // Close takes as long as a busy machine needs.
	ipctest.OverAddresses(t, func(t *testing.T, address string) {
		dialled, accepted := ipctest.Converse(t, ipctest.Listen(t, address, patient), address, patient)
		test(t, dialled, accepted)
	})
	t.Run("tls", func(t *testing.T) {
		server, client := ipctest.NewAuthority(t).Configs(t)
		path := ipctest.SocketPath(t)
		dialled, accepted := ipctest.Converse(t, ipctest.Listen(t, path, udsipc.WithTLS(server), patient),
			path, udsipc.WithTLS(client), patient)
		test(t, dialled, accepted)
	})
}

func TestConn_ExchangesMessages(t *testing.T) {
	t.Parallel()
	overConversations(t, func(t *testing.T, dialled, accepted *udsipc.Conn) {
		for _, size := range []int{0, 1, 127, 128, 16 << 10, 64<<10 - 3, 64 << 10, 1 << 20, 5 << 20} {
			message := bytes.Repeat([]byte{byte(size), 7}, size)[:size]
			for _, pair := range [][2]*udsipc.Conn{{dialled, accepted}, {accepted, dialled}} {
				if err := pair[0].WriteMessage(message); err != nil {
					t.Fatal(err)
				}
				got, err := pair[1].ReadMessage()
				if err != nil || !bytes.Equal(got, message) {
					t.Fatalf("%d bytes of %d, %v", len(got), size, err)
				}
			}
		}
		if err := dialled.WriteMessage([]byte("the last")); err != nil {
			t.Fatal(err)
		}
		if err := dialled.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := accepted.ReadMessage(); err != nil || string(got) != "the last" {
			t.Errorf("%q, %v", got, err)
		}
		if got, err := accepted.ReadMessage(); err != io.EOF {
			t.Errorf("%q, %v", got, err)
		}
		if _, err := dialled.ReadMessage(); !errors.Is(err, udsipc.ErrConnectionClosed) || !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if err := dialled.WriteMessage(nil); !errors.Is(err, udsipc.ErrConnectionClosed) || !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// TestConn_ConcurrentWriters_KeepMessagesWhole: every message whole, those of one goroutine in
// order, both ways at once.
func TestConn_ConcurrentWriters_KeepMessagesWhole(t *testing.T) {
	t.Parallel()
	const goroutines, messages = 16, 500
	overConversations(t, func(t *testing.T, dialled, accepted *udsipc.Conn) {
		var all sync.WaitGroup
		for _, c := range []*udsipc.Conn{dialled, accepted} {
			for g := range goroutines {
				all.Go(func() {
					for n := range messages {
						text := fmt.Sprintf("%d %d %s", g, n, strings.Repeat("x", n*7%3000))
						if err := c.WriteMessage([]byte(text)); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			all.Go(func() {
				var next [goroutines]int
				for range goroutines * messages {
					data, err := c.ReadMessage()
					if err != nil {
						t.Error(err)
						return
					}
					var g, n int
					if _, err := fmt.Sscan(string(data), &g, &n); err != nil || next[g] != n ||
						len(data) != len(fmt.Sprintf("%d %d ", g, n))+n*7%3000 {
						t.Errorf("%q of goroutine %d, want %d: %v", data, g, next[g], err)
						return
					}
					next[g]++
				}
			})
		}
		all.Wait()
	})
}

// TestConn_Messages_EndsWithConnectionOrLoop ends with the connection, or when its loop does.
func TestConn_Messages_EndsWithConnectionOrLoop(t *testing.T) {
	path := ipctest.SocketPath(t)
	dialled, accepted := ipctest.Converse(t, ipctest.Listen(t, path), path)
	for n := range 5 {
		if err := dialled.WriteMessage([]byte{byte(n)}); err != nil {
			t.Fatal(err)
		}
	}
	next := byte(0)
	for data, err := range accepted.Messages() {
		if err != nil || data[0] != next {
			t.Fatalf("% x, %v, want %d", data, err, next)
		}
		if next++; next == 3 {
			break
		}
	}
	dialled.Close()
	for data, err := range accepted.Messages() {
		if err != nil || data[0] != next {
			t.Fatalf("% x, %v, want %d", data, err, next)
		}
		next++
	}
	if next != 5 {
		t.Errorf("%d messages", next)
	}
}

// TestConn_CutAtEveryByte_ReturnsWholeMessages at every byte of a message: the messages before it
// are whole, the rest is an error.
func TestConn_CutAtEveryByte_ReturnsWholeMessages(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long")
	}
	stream := ipctest.Frames("one", strings.Repeat("x", 200), "")
	whole := map[int]int{0: 0, 4: 1, 206: 2, 207: 3} // Messages, where a cut is between two.
	for offset := range len(stream) + 1 {
		path := ipctest.SocketPath(t)
		l := ipctest.Listen(t, path)
		raw := ipctest.MustDial(t, path)
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		ipctest.MustWrite(t, raw, stream[:offset])
		raw.Close()
		var count int
		for {
			if _, err = accepted.ReadMessage(); err != nil {
				break
			}
			count++
		}
		want, between := whole[offset]
		switch {
		case between && (err != io.EOF || count != want):
			t.Errorf("cut at %d: %d messages, %v", offset, count, err)
		case !between && !errors.Is(err, udsipc.ErrConnectionClosed):
			t.Errorf("cut at %d: %v", offset, err)
		}
		accepted.Close()
	}
}

func TestConn_ReadDeadline_EndsWait(t *testing.T) {
	t.Parallel()
	overConversations(t, func(t *testing.T, dialled, accepted *udsipc.Conn) {
		soon := func() time.Time { return time.Now().Add(20 * time.Millisecond) }
		for range 2 {
			if err := dialled.SetReadDeadline(soon()); err != nil {
				t.Fatal(err)
			}
			if _, err := dialled.ReadMessage(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			if _, err := dialled.ReadMessage(); !errors.Is(err, os.ErrDeadlineExceeded) { // It has passed.
				t.Fatal(err)
			}
		}
		if dialled.Peer().TLS != nil {
			return // A TLS connection goes on after a read, but this test wants a write that waits.
		}
		if err := dialled.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		woken := make(chan error, 1)
		go func() { _, err := dialled.ReadMessage(); woken <- err }() // Ends with the deadline.
		time.Sleep(5 * time.Millisecond)
		if err := dialled.SetReadDeadline(time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		if err := ipctest.Await(t, "a reader that waits is woken", woken); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		if err := dialled.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if err := accepted.WriteMessage([]byte("after all")); err != nil {
			t.Fatal(err)
		}
		if got, err := dialled.ReadMessage(); err != nil || string(got) != "after all" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// TestConn_WriteDeadline_EndsWaitForSpace: with nobody who reads, a queue fills and the deadline
// ends the wait, once it comes.
func TestConn_WriteDeadline_EndsWaitForSpace(t *testing.T) {
	t.Parallel()
	path := ipctest.SocketPath(t)
	dialled, accepted := ipctest.Converse(t, ipctest.Listen(t, path), path,
		udsipc.WithMaxBufferedBytes(1<<20), udsipc.WithWriteTimeout(10*time.Millisecond))
	message := make([]byte, 100_000)
	written := make(chan error, 1)
	go func() { // Ends with the deadline.
		for {
			if err := dialled.WriteMessage(message); err != nil {
				written <- err
				return
			}
		}
	}()
	time.Sleep(50 * time.Millisecond)
	if err := dialled.SetWriteDeadline(time.Now().Add(time.Hour)); err != nil { // It waits on.
		t.Fatal(err)
	}
	if err := dialled.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	err := ipctest.Await(t, "the end of the wait", written)
	if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.Is(err, udsipc.ErrBufferFull) {
		t.Error(err)
	}
	if err := dialled.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() { _, err := accepted.ReadMessage(); got <- err }() // Ends with the message.
	if err := ipctest.Await(t, "a message that was queued", got); err != nil {
		t.Error(err)
	}
	if err := dialled.Close(); !errors.Is(err, udsipc.ErrBackpressure) { // The rest has no room.
		t.Error(err)
	}
}

func TestConn_Overflow_FollowsPolicy(t *testing.T) {
	path := ipctest.SocketPath(t)
	dialled, _ := ipctest.Converse(t, ipctest.Listen(t, path), path,
		udsipc.WithMaxBufferedBytes(1<<20), udsipc.WithOverflow(udsipc.OverflowRefuse))
	for range 1000 {
		if err := dialled.WriteMessage(make([]byte, 100_000)); err != nil {
			if !errors.Is(err, udsipc.ErrBufferFull) {
				t.Error(err)
			}
			return
		}
	}
	t.Error("the queue is never full")
}

// TestConnLoses its peer while it writes: it says so, for good.
func TestConn_PeerLostDuringWrite_ReportsForGood(t *testing.T) {
	overConversations(t, func(t *testing.T, dialled, accepted *udsipc.Conn) {
		accepted.Close()
		ipctest.Until(t, "writing fails", func() bool { return dialled.WriteMessage([]byte("anybody?")) != nil })
		if err := dialled.WriteMessage(nil); !errors.Is(err, udsipc.ErrConnectionClosed) {
			t.Error(err)
		}
		if err := dialled.Flush(t.Context()); !errors.Is(err, udsipc.ErrConnectionClosed) {
			t.Error(err)
		}
	})
}

func TestConn_OtherProtocols_AreErrors(t *testing.T) {
	for name, test := range map[string]struct {
		bytes []byte
		want  error
	}{
		"a message over the limit": {ipctest.Frames(strings.Repeat("x", 101)), udsipc.ErrMessageTooLarge},
		"no length":                {bytes.Repeat([]byte{0xff}, 11), udsipc.ErrInvalidLengthPrefix},
		"a session": {
			ipctest.Unhex(t, "f5e4f3e9f0e3ade1e3ebe5e4 15 01 00112233445566778899aabbccddeeff 01 01 00 00"),
			udsipc.ErrInvalidLengthPrefix},
	} {
		t.Run(name, func(t *testing.T) {
			path := ipctest.SocketPath(t)
			l := ipctest.Listen(t, path, udsipc.WithMaxMessageSize(100))
			ipctest.MustWrite(t, ipctest.MustDial(t, path), test.bytes)
			accepted, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer accepted.Close()
			if _, err := accepted.ReadMessage(); !errors.Is(err, test.want) {
				t.Error(err)
			}
			if err := accepted.WriteMessage(make([]byte, 101)); !errors.Is(err, udsipc.ErrMessageTooLarge) {
				t.Error(err)
			}
		})
	}
}

func TestConn_Peer_ReturnsCredentials(t *testing.T) {
	path := ipctest.SocketPath(t)
	dialled, accepted := ipctest.Converse(t,
		ipctest.Listen(t, path, udsipc.WithAuthorizer(udsipc.SameUser())), path,
		udsipc.WithAuthorizer(udsipc.SameUser()))
	for _, c := range []*udsipc.Conn{dialled, accepted} {
		if peer := c.Peer(); peer.Credentials == nil || peer.Credentials.UID != os.Getuid() || peer.ID == 0 {
			t.Errorf("%+v", peer)
		}
	}
	nobody := func(udsipc.Peer) error { return errors.New("nobody") }
	if _, err := udsipc.Dial(t.Context(), path, udsipc.WithAuthorizer(nobody)); !errors.Is(err, udsipc.ErrUnauthorized) {
		t.Error(err)
	}
}

func TestConn_Stream_CarriesBytes(t *testing.T) {
	t.Parallel()
	overConversations(t, func(t *testing.T, dialled, accepted *udsipc.Conn) {
		sent := bytes.Repeat([]byte("all the bytes "), 100_000)
		go func() { // Ends with the bytes.
			s := dialled.Stream()
			for b := sent; len(b) > 0; {
				n := min(len(b), 77_777)
				if _, err := s.Write(b[:n]); err != nil {
					t.Error(err)
				}
				b = b[n:]
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}()
		got, err := io.ReadAll(accepted.Stream())
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d bytes of %d, %v", len(got), len(sent), err)
		}
	})
}

func TestDial_Failures_MatchSentinels(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx     context.Context
		address string
		opts    []udsipc.WriterOption
		want    error
	}{
		"nobody":           {t.Context(), ipctest.SocketPath(t), nil, udsipc.ErrNoConsumer},
		"no address":       {t.Context(), "", nil, udsipc.ErrInvalidSocketPath},
		"an ended context": {ctx, ipctest.SocketPath(t), nil, context.Canceled},
		"an option to send": {t.Context(), ipctest.SocketPath(t),
			[]udsipc.WriterOption{udsipc.WithMaxBufferedBytes(0)}, udsipc.ErrInvalidBufferSize},
	} {
		if _, err := udsipc.Dial(test.ctx, test.address, test.opts...); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := udsipc.Dial(t.Context(), "x", udsipc.WithAcknowledgements()); err == nil ||
		!strings.Contains(err.Error(), "WithAcknowledgements") {
		t.Error(err)
	}
	_, err := udsipc.NewReader(ipctest.Ignore, "x", udsipc.WithOverflow(udsipc.OverflowBlock))
	if err == nil || !strings.Contains(err.Error(), "WithOverflow") {
		t.Error(err)
	}
	if _, err := udsipc.Listen("x", udsipc.WithDeadLetter(func(*udsipc.Delivery, error) {})); err == nil {
		t.Error("a dead letter of a Listener")
	}
}

// BenchmarkPingPong is one message there and back: what a request costs at the least, bare and with frames.
func BenchmarkPingPong(b *testing.B) {
	for _, size := range []int{128, 1 << 10} {
		message := make([]byte, size)
		b.Run(fmt.Sprintf("bare/%d", size), func(b *testing.B) {
			client, server := ipctest.SocketPair(b)
			go func() { // Ends with the connection.
				buf := make([]byte, size)
				for {
					if _, err := io.ReadFull(server, buf); err != nil {
						return
					}
					if _, err := server.Write(buf); err != nil {
						return
					}
				}
			}()
			buf := make([]byte, size)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.Write(message); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(client, buf); err != nil {
					b.Fatal(err)
				}
			}
			client.Close()
		})
		b.Run(fmt.Sprintf("Conn/%d", size), func(b *testing.B) {
			path := ipctest.SocketPath(b)
			dialled, accepted := ipctest.Converse(b, ipctest.Listen(b, path), path)
			go func() { // Ends with the connection.
				for data, err := range accepted.Messages() {
					if err != nil || accepted.WriteMessage(data) != nil {
						return
					}
				}
			}()
			b.ReportAllocs()
			for b.Loop() {
				if err := dialled.WriteMessage(message); err != nil {
					b.Fatal(err)
				}
				if _, err := dialled.ReadMessage(); err != nil {
					b.Fatal(err)
				}
			}
			dialled.Close()
		})
	}
}
