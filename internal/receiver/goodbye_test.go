// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// A peerEnd is how a peer of a plain Writer ends the connection, and what the Writer has to conclude.
type peerEnd struct {
	what  string
	reads int    // Bytes that the peer reads before it ends the connection; -1: to its end, which the goodbye asks for.
	says  string // Hexadecimal.
	bare  uint64 // The possible loss over a bare Unix socket on Linux, of ten messages of one byte.
	other uint64 // Over a connection of which the kernel tells nothing.
	cause error  // What the report must match, if there is one.
}

// TestWriter_EveryReaderEnd_AccountsForMessages plays a reader that ends its connection in each way
// that there is, over a bare socket, over TCP, and over a connection that tells nothing by itself.
func TestWriter_EveryReaderEnd_AccountsForMessages(t *testing.T) {
	t.Parallel()
	const all, size = 10, 20
	ends := []peerEnd{
		{"end of file, everything was read", size, "", 0, all, udsipc.ErrConnectionClosed},
		{"end of file, a part lies unread", size / 2, "", all, all, udsipc.ErrConnectionClosed},
		{"goodbye and end, everything was read", -1, "00", 0, all, udsipc.ErrConnectionClosed},
		{"report, everything was read", -1, "00 04 00 0b 00 64", 0, 0, nil},
		{"report, 4 were read", size, "00 04 00 05 00 64", 6, 6, udsipc.ErrConnectionClosed},
		{"report, 3 skipped", -1, "00 04 03 0b 03 64", 3, 3, udsipc.ErrMessageTooLarge},
		{"report of more messages than were written", -1, "00 05 00 ff01 00 64", 0, 0, nil},
		{"too many connections", 0, "00 04 01 01 00 64", all, all, udsipc.ErrTooManyConnections},
		{"not authorized", size, "00 04 02 01 00 64", all, all, udsipc.ErrUnauthorized},
		{"malformed length, 9 were read", size, "00 04 04 0a 00 64", 1, 1, udsipc.ErrInvalidLengthPrefix},
		{"too slow, the messages are not known", -1, "00 04 05 00 00 64", 0, all, udsipc.ErrTooSlow},
		{"TLS is spoken here", 0, "00 04 06 01 00 64", all, all, udsipc.ErrHandshake},
		{"unknown reason, 9 were read", size, "00 04 63 0a 00 64", 1, 1, udsipc.ErrConnectionClosed},
		{"another protocol", size, "48 54 54 50", all, all, udsipc.ErrConnectionClosed},
		{"goodbye, then another protocol", -1, "00 00 00", all, all, udsipc.ErrConnectionClosed},
	}
	for _, way := range []string{"unix", "tcp", "wrapped"} {
		for _, end := range ends {
			if way == "unix" && runtime.GOOS != "linux" || way == "tcp" && end.reads == 0 {
				continue
			}
			t.Run(way+"/"+end.what, func(t *testing.T) { checkPeerEnd(t, way, end, all) })
		}
	}
}

func checkPeerEnd(t *testing.T, way string, end peerEnd, messages int) {
	network, name := "unix", ipctest.SocketPath(t)
	address, want := name, end.bare
	var opts []udsipc.WriterOption
	switch way {
	case "tcp":
		network, name = "tcp", "127.0.0.1:0"
	case "wrapped":
		opts, want = append(opts, udsipc.WithDialer(func(ctx context.Context) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, name)
			return ipctest.WrappedConn{Conn: conn}, err
		})), end.other
		if end.reads < 0 {
			end.reads = 2 * messages // It cannot be closed by halves.
		}
	}
	l, err := net.Listen(network, name)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if way == "tcp" {
		address = "tcp://" + l.Addr().String()
	}
	errs := ipctest.Collect()
	ended := make(chan struct{}, 100)
	w := ipctest.NewWriter(t, address, append(opts, udsipc.WithWriterErrorCallback(errs.Callback),
		udsipc.WithStateCallback(func(s udsipc.State, _ error) {
			if s == udsipc.StateDisconnected {
				ended <- struct{}{}
			}
		}))...)
	ipctest.MustStart(t, w)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	l.Close() // One connection only.
	for range messages {
		ipctest.MustWriteMessage(t, w, "x")
	}
	ipctest.Until(t, "everything is written", func() bool { return w.Metrics().Sent == uint64(messages) })
	playEnd(t, conn, end)
	ipctest.Await(t, "the end of the connection", ended)
	if got := w.Metrics().PossiblyLost; got != want {
		t.Errorf("%d messages are possibly lost, want %d", got, want)
	}
	if want == 0 {
		return
	}
	loss := (*udsipc.PossibleLossError)(nil)
	if err := errs.Want(t, udsipc.ErrConnectionClosed); !errors.As(err, &loss) ||
		loss.Messages != want || !errors.Is(err, end.cause) {
		t.Errorf("reported %v, want a loss of %d because of %v", err, want, end.cause)
	}
}

// playEnd does what end says, as a reader.
func playEnd(t *testing.T, conn net.Conn, end peerEnd) {
	t.Helper()
	if end.reads > 0 {
		if _, err := io.ReadFull(conn, make([]byte, end.reads)); err != nil {
			t.Error(err)
		}
	}
	ipctest.MustWrite(t, conn, ipctest.Unhex(t, end.says))
	if end.reads < 0 {
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Error(err)
		}
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

// TestSession_OverlongWelcome_IsRejected: a later version may have longer welcomes. One that has no end is an error.
func TestSession_OverlongWelcome_IsRejected(t *testing.T) {
	for _, size := range []int{63, 64, 65, 127, 128} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			path := ipctest.SocketPath(t)
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			errs := ipctest.Collect()
			w := ipctest.NewWriter(t, path, udsipc.WithAcknowledgements(), udsipc.WithWriterErrorCallback(errs.Callback))
			ipctest.MustStart(t, w)
			ipctest.MustWriteMessage(t, w, "x")
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			ipctest.MustWrite(t, conn, append(ipctest.Frames(strings.Repeat("\x02", size)), make([]byte, 100)...))
			errs.Want(t, udsipc.ErrAcksUnsupported)
		})
	}
}

// TestWriter_NewReader_ForgetsOldLimit: the limit of a reader that has ended does not bind an idle Writer.
func TestWriter_NewReader_ForgetsOldLimit(t *testing.T) {
	path := ipctest.SocketPath(t)
	small := ipctest.StartReader(t, func([]byte) error { return nil }, path, udsipc.WithMaxMessageSize(100))
	w := ipctest.NewWriter(t, path, udsipc.WithAcknowledgements())
	ipctest.MustStart(t, w)
	ipctest.MustWriteMessage(t, w, "x")
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	large := make([]byte, 1000)
	if err := w.WriteMessage(large); !errors.Is(err, udsipc.ErrMessageTooLarge) {
		t.Errorf("while the reader is there: %v", err)
	}
	ipctest.Stop(t, small)
	got := make(chan int, 1)
	ipctest.StartReader(t, func(data []byte) error { got <- len(data); return nil }, path)
	ipctest.Until(t, "the message is accepted", func() bool { return w.WriteMessage(large) == nil })
	if n := ipctest.Await(t, "the message", got); n != len(large) {
		t.Errorf("%d bytes arrived", n)
	}
}

// TestSession_Rejected_ReportsReason: a reader that is full, or does not want this writer, is not
// taken for one that does not know acknowledgements.
func TestSession_Rejected_ReportsReason(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		for _, test := range []struct {
			want error
			opt  udsipc.ReaderOption
		}{
			{udsipc.ErrTooManyConnections, udsipc.WithMaxConnections(1)},
			{udsipc.ErrUnauthorized, udsipc.WithAuthorizer(func(p udsipc.Peer) error {
				if p.ID > 1 {
					return errors.New("one is enough")
				}
				return nil
			})},
		} {
			r := on.StartReader(t, func([]byte) error { return nil }, test.opt)
			first := on.NewWriter(t)
			ipctest.MustStart(t, first)
			if err := first.WaitConnected(t.Context()); err != nil {
				t.Fatal(err)
			}
			ipctest.Until(t, "the reader has it", func() bool { return r.Metrics().Connections == 1 })
			errs := ipctest.Collect()
			w := on.NewWriter(t, udsipc.WithAcknowledgements(), udsipc.WithWriterErrorCallback(errs.Callback))
			ipctest.MustStart(t, w)
			errs.Want(t, test.want)
			errs.None(t, udsipc.ErrAcksUnsupported)
			ipctest.Stop(t, w)
			ipctest.Stop(t, first)
			ipctest.Stop(t, r)
		}
	})
}

// TestWriter_FullReader_KeepsLargeMessage: a reader that is full is not one for which the message is too large.
func TestWriter_FullReader_KeepsLargeMessage(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		const size = 8 << 20 // More than the kernels hold.
		got := make(chan int, 10)
		r := on.StartReader(t, func(data []byte) error { got <- len(data); return nil }, udsipc.WithMaxConnections(1))
		first := on.NewWriter(t)
		ipctest.MustStart(t, first)
		ipctest.Until(t, "the first is connected", func() bool { return r.Metrics().Connections == 1 })
		errs := ipctest.Collect()
		w := on.NewWriter(t, udsipc.WithWriterErrorCallback(errs.Callback), udsipc.WithMaxBackoff(10*time.Millisecond))
		ipctest.MustStart(t, w)
		ipctest.MustWriteMessage(t, w, strings.Repeat("x", size))
		ipctest.Until(t, "it was rejected six times, or has come through all the same", func() bool {
			return r.Metrics().Refused >= 6 || len(got) > 0
		})
		ipctest.Stop(t, first)
		if n := ipctest.Await(t, "the message", got); n != size {
			t.Errorf("%d bytes arrived", n)
		}
		if m := w.Metrics(); m.Undelivered != 0 || m.PossiblyLost != 0 {
			t.Errorf("%+v", m)
		}
		errs.Want(t, udsipc.ErrTooManyConnections)
	})
}

// TestWriter_WrappedConn_WaitsForReport: a Reader that stops refuses further bytes and handles what
// it has, however long that takes. A Writer whose connection tells nothing else waits for the
// report, so that no connection overtakes it.
func TestWriter_WrappedConn_WaitsForReport(t *testing.T) {
	t.Parallel()
	const messages, size = 2000, 1000
	path := ipctest.SocketPath(t)
	var handled sequenceOfTwo
	first := ipctest.StartReader(t, handled.slowly, path)
	errs := ipctest.Collect()
	w := ipctest.NewWriter(t, path, udsipc.WithWriterErrorCallback(errs.Callback),
		udsipc.WithDialer(func(ctx context.Context) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
			return ipctest.WrappedConn{Conn: conn}, err
		}))
	ipctest.MustStart(t, w)
	for n := range messages {
		if err := w.WriteMessageContext(t.Context(), ipctest.Number(uint64(n+1), size)); err != nil {
			t.Fatal(err)
		}
	}
	ipctest.Until(t, "the socket is full", func() bool { return handled.count() > 2 })
	ipctest.Stop(t, first)
	ipctest.StartReader(t, handled.handle, path)
	if err := w.Flush(t.Context()); err != nil {
		t.Errorf("Flush: %v", err)
	}
	ipctest.Until(t, "all are handled", func() bool { return handled.count() == messages })
	if m := w.Metrics(); m.PossiblyLost > 0 || handled.disorder() {
		t.Errorf("%d possibly lost, out of order: %v", m.PossiblyLost, handled.disorder())
	}
}

// TestReader_WrappedWriter_SendsReport: what a Reader could leave to the kernel it says all the
// same, because its writer may see the socket through a type that the library does not know.
func TestReader_WrappedWriter_SendsReport(t *testing.T) {
	t.Parallel()
	for _, idle := range []bool{false, true} {
		ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
			if !on.Bare() {
				t.Skip("the Reader sees the socket")
			}
			var opts []udsipc.ReaderOption
			if idle {
				opts = append(opts, udsipc.WithInactivityTimeout(20*time.Millisecond))
			}
			r := on.StartReader(t, ipctest.Ignore, opts...)
			w := on.StartedWriter(t, udsipc.WithDialer(func(ctx context.Context) (net.Conn, error) {
				conn, err := on.Connect(ctx)
				return ipctest.WrappedConn{Conn: conn}, err
			}))
			ipctest.MustWriteMessage(t, w, "x")
			if idle {
				ipctest.Until(t, "the connection has ended",
					func() bool { m := w.Metrics(); return m.LostConnections == 1 && !m.Connected })
			}
			ipctest.Stop(t, w)
			if m := w.Metrics(); m.PossiblyLost > 0 || r.Metrics().Received != 1 {
				t.Errorf("idle %v: %+v", idle, m)
			}
		})
	}
}

// A sequenceOfTwo handles the numbered messages of two Readers after one another.
type sequenceOfTwo struct {
	mu    sync.Mutex
	last  uint64
	n     int
	wrong bool
}

func (s *sequenceOfTwo) handle(data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := binary.BigEndian.Uint64(data)
	s.wrong = s.wrong || n != s.last+1
	s.last = n
	s.n++
	return nil
}

func (s *sequenceOfTwo) slowly(data []byte) error {
	time.Sleep(3 * time.Millisecond)
	return s.handle(data)
}

func (s *sequenceOfTwo) count() int     { s.mu.Lock(); defer s.mu.Unlock(); return s.n }
func (s *sequenceOfTwo) disorder() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.wrong }

// halfConn is a connection of unknown kind that can be closed by halves.
type halfConn struct{ *net.TCPConn }

// TestWriter_StopOverUnknownConn_WaitsForPeer: the kernel drops what a closed TCP socket has still
// to send when the peer says goodbye. A Writer that cannot ask it closes its sending side first,
// and waits for the end of the peer.
func TestWriter_StopOverUnknownConn_WaitsForPeer(t *testing.T) {
	t.Parallel()
	const messages, size = 200, 64 << 10
	address := ipctest.TcpAddress(t)
	gate := make(chan struct{})
	var handled atomic.Int64
	r := ipctest.StartReader(t, func([]byte) error {
		<-gate
		handled.Add(1)
		return nil
	}, address)
	w := ipctest.NewWriter(t, address, udsipc.WithDialer(func(ctx context.Context) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(address, "tcp://"))
		if err != nil {
			return nil, err
		}
		return halfConn{conn.(*net.TCPConn)}, nil
	}))
	ipctest.MustStart(t, w)
	accepted := 0
	for ; accepted < messages; accepted++ {
		ipctest.MustWriteMessage(t, w, strings.Repeat("x", size))
	}
	ipctest.Until(t, "the kernels have all that they take",
		func() bool { m := w.Metrics(); return m.Backpressure > 0 || m.Queued == 0 })
	stopped := make(chan error, 2)
	go func() { stopped <- w.Stop(t.Context()) }()
	close(gate)
	if err := ipctest.Await(t, "Stop of the Writer", stopped); err != nil {
		t.Error(err)
	}
	ipctest.Stop(t, r)
	if n := handled.Load(); n != int64(accepted) {
		t.Errorf("%d of %d messages were handled: %+v", n, accepted, w.Metrics())
	}
}

// TestWriter_ForcedStopTCP_ReportsUnread: what lies unread when the context of Stop ends is in its
// error, over TCP as over Unix sockets; what was read long ago is not.
func TestWriter_ForcedStopTCP_ReportsUnread(t *testing.T) {
	t.Parallel()
	for _, blocked := range []bool{false, true} {
		t.Run(fmt.Sprintf("blocked %v", blocked), func(t *testing.T) {
			address := ipctest.TcpAddress(t)
			gate := make(chan struct{})
			defer close(gate)
			ipctest.StartReader(t, func(data []byte) error {
				if blocked {
					<-gate
				}
				return nil
			}, address)
			w := ipctest.NewWriter(t, address, udsipc.WithWriteTimeout(50*time.Millisecond))
			ipctest.MustStart(t, w)
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			if blocked {
				for range 200 {
					if err := w.WriteMessage(make([]byte, 64<<10)); err != nil && !errors.Is(err, udsipc.ErrBufferFull) {
						t.Fatal(err)
					}
				}
				// The Reader takes one message, and what its buffer holds.
				ipctest.Until(t, "the kernels are full", func() bool { m := w.Metrics(); return m.Backpressure > 0 && m.Sent > 10 })
			} else {
				ipctest.MustWriteMessage(t, w, "x")
				if err := w.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			// The first returns at once, and may not know yet what the connection says; the second waits for that.
			first := w.Stop(ended)
			err := w.Stop(t.Context())
			if blocked {
				err = errors.Join(first, err)
			}
			if (err != nil) != blocked {
				t.Errorf("Stop: %v, after %v", err, first)
			} else if blocked && !strings.Contains(err.Error(), "with the kernel") {
				t.Errorf("Stop says nothing of what lies in the kernel: %v", err)
			}
		})
	}
}

// TestReader_PlainMessageLikeTLS_IsReported: a plain Writer whose first message begins like a
// record of TLS hears from a Reader that speaks TLS that it was not read, although the handshake
// has swallowed it.
func TestReader_PlainMessageLikeTLS_IsReported(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]string{
		"a record that does not come to its end": "\x0a\x14\x20\x20" + strings.Repeat("x", 18),
		"a record that is there":                 "\x0a\x14\x00\x01" + strings.Repeat("x", 18),
		"a record that is too large":             "\x0a\x14" + strings.Repeat("x", 20),
		"less than the head of a record":         "",
	} {
		for _, wrapped := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, wrapped %v", name, wrapped), func(t *testing.T) {
				ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
					if !on.Secure {
						t.Skip("the Reader does not speak TLS")
					}
					config, _ := on.Configs(t)
					opts := []udsipc.ReaderOption{udsipc.WithTLS(config), udsipc.WithHandshakeTimeout(20 * time.Millisecond)}
					if wrapped {
						opts = append(opts, udsipc.WithListener(ipctest.WrappedListener{Listener: ipctest.MustListen(t, on.Address)}))
					}
					ipctest.StartReader(t, ipctest.Ignore, on.Address, opts...)
					w := ipctest.NewWriter(t, on.Address)
					ipctest.MustWriteMessage(t, w, first)
					ipctest.MustStart(t, w)
					defer func() {
						if t.Failed() {
							t.Logf("%+v", w.Metrics())
						}
					}()
					ipctest.Until(t, "it is said to be lost", func() bool { return w.Metrics().PossiblyLost == 1 })
				})
			})
		}
	}
}
