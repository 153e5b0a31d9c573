// SPDX-License-Identifier: Apache-2.0

package duplex_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/ipctest"
)

func TestMain(m *testing.M) { ipctest.Main(m) }

func serve(tb testing.TB, address string, handler duplex.Handler, opts ...udsipc.ReaderOption) *duplex.Server {
	tb.Helper()
	s, err := duplex.NewServer(address, handler, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ipctest.Stop(tb, s) })
	return s
}

func dial(tb testing.TB, address string, opts ...udsipc.WriterOption) *duplex.Client {
	tb.Helper()
	c, err := duplex.NewClient(address,
		append([]udsipc.WriterOption{udsipc.WithMaxBackoff(10 * time.Millisecond)}, opts...)...)
	if err != nil {
		tb.Fatal(err)
	}
	if err := c.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = c.Stop(ctx) // What is left is the test's affair.
	})
	return c
}

func echo(_ context.Context, s *duplex.ServerConn, m duplex.Message) error { return s.Send(m) }

func receive(tb testing.TB, c *duplex.Client) duplex.Message {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
	defer cancel()
	m, err := c.Receive(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func TestServer_Echo_RoundTrips(t *testing.T) {
	t.Parallel()
	addresses := map[string]string{"unix": ipctest.SocketPath(t), "tcp": ipctest.TcpAddress(t)}
	if runtime.GOOS == "linux" {
		addresses["abstract"] = ipctest.AbstractName(t)
	}
	for name, address := range addresses {
		t.Run(name, func(t *testing.T) {
			serve(t, address, echo)
			c := dial(t, address)
			for i, kind := range []uint32{0, 1, 127, 128, math.MaxUint32} {
				want := duplex.Message{Type: kind, Data: bytes.Repeat([]byte{byte(i)}, i*30_000)}
				if err := c.Send(want); err != nil {
					t.Fatal(err)
				}
				if got := receive(t, c); got.Type != want.Type || !bytes.Equal(got.Data, want.Data) {
					t.Errorf("type %d, %d bytes; want %d, %d", got.Type, len(got.Data), want.Type, len(want.Data))
				}
			}
		})
	}
}

func TestServer_Conns_YieldsOpenConnections(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	s := serve(t, address, func(ctx context.Context, s *duplex.ServerConn, m duplex.Message) error {
		if string(m.Data) == "close" {
			return s.Close()
		}
		return s.Send(duplex.Message{Type: m.Type, Data: fmt.Append(nil, s.Peer().ID)})
	})
	one, two := dial(t, address), dial(t, address)
	ids := map[string]bool{}
	for _, c := range []*duplex.Client{one, two} {
		if err := c.Send(duplex.Message{Type: 7}); err != nil {
			t.Fatal(err)
		}
		ids[string(receive(t, c).Data)] = true
	}
	var session *duplex.ServerConn
	count := 0
	for session = range s.Conns() {
		count++
		if session.Context().Err() != nil || runtime.GOOS == "linux" && session.Peer().Credentials == nil {
			t.Errorf("%v", session.Peer())
		}
	}
	if count != 2 || len(ids) != 2 {
		t.Errorf("%d sessions, %v", count, ids)
	}
	if err := session.Close(); err != nil {
		t.Error(err)
	}
	<-session.Context().Done()
	if err := session.Send(duplex.Message{}); !errors.Is(err, udsipc.ErrConnectionClosed) {
		t.Error(err)
	}
	ipctest.Until(t, "it is gone, and its client is back", func() bool {
		n := 0
		for other := range s.Conns() {
			if other == session {
				return false
			}
			n++
		}
		return n == 2
	})
	if err := one.Send(duplex.Message{Data: []byte("close")}); err != nil { // From inside a handler.
		t.Fatal(err)
	}
	ipctest.Until(t, "its client has noticed", func() bool { return s.Metrics().Accepted == 4 })
}

// TestServer_HandlerFails_CostsOneMessage, and cost their message alone; what is no message costs the connection.
func TestServer_HandlerFails_CostsOneMessage(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	errs := make(chan error, 10)
	serve(t, address, func(_ context.Context, s *duplex.ServerConn, m duplex.Message) error {
		switch m.Type {
		case 1:
			return errors.New("mine")
		case 2:
			panic("oh")
		}
		return s.Send(m)
	}, udsipc.WithReaderErrorCallback(func(err error, _ string) { errs <- err }))
	c := dial(t, address)
	for kind := range uint32(4) {
		if err := c.Send(duplex.Message{Type: kind}); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []uint32{0, 3} {
		if m := receive(t, c); m.Type != want {
			t.Errorf("type %d, want %d", m.Type, want)
		}
	}
	for _, want := range []string{"mine", "duplex_test.go"} {
		if err := <-errs; !errors.Is(err, udsipc.ErrHandlerFailed) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	conn, err := udsipc.Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.WriteMessage([]byte{0xff}); err != nil {
		t.Fatal(err)
	}
	if err := <-errs; !errors.Is(err, duplex.ErrInvalidMessage) {
		t.Error(err)
	}
	for _, want := range []string{"", "\x07\x01\x00\x80\x80\x80\x05"} { // The goodbye and the report of a Reader.
		if data, err := conn.ReadMessage(); err != nil || string(data) != want {
			t.Errorf("%q, %v, want %q", data, err, want)
		}
	}
	if _, err := conn.ReadMessage(); err != io.EOF {
		t.Errorf("the connection goes on: %v", err)
	}
}

// TestServer_HandlerRefuses_ClientIsTold: a handler that does not understand a client ends the connection. The client
// hears why, and its handler gets no message of that.
func TestServer_HandlerRefuses_ClientIsTold(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	serve(t, address, func(_ context.Context, s *duplex.ServerConn, m duplex.Message) error {
		return fmt.Errorf("%w: %q", duplex.ErrInvalidMessage, m.Data)
	})
	errs := ipctest.Collect()
	c, err := duplex.NewHandlerClient(address, func(m duplex.Message) { t.Errorf("received %+v", m) },
		udsipc.WithWriterErrorCallback(errs.Callback))
	if err == nil {
		err = errors.Join(c.Start(), c.Send(duplex.Message{Type: 1}))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ipctest.Stop(t, c) })
	if err := errs.Want(t, udsipc.ErrConnectionClosed); !strings.Contains(err.Error(), "the server does not understand") {
		t.Error(err)
	}
}

// TestServer_Rejects_ClientIsTold why, and so is a Writer that has connected by mistake.
func TestServer_Rejects_ClientIsTold(t *testing.T) {
	t.Parallel()
	config, _ := ipctest.NewAuthority(t).Configs(t)
	for name, test := range map[string]struct {
		opt  udsipc.ReaderOption
		want error
		says string
	}{
		"TLS":  {udsipc.WithTLS(config), udsipc.ErrHandshake, "use WithTLS"},
		"full": {udsipc.WithMaxConnections(1), udsipc.ErrTooManyConnections, "its WithMaxConnections"},
		"authorizer": {udsipc.WithAuthorizer(func(udsipc.Peer) error { return ipctest.ErrNotAllowed }),
			udsipc.ErrUnauthorized, "its WithAuthorizer"},
	} {
		t.Run(name, func(t *testing.T) {
			address := ipctest.SocketPath(t)
			serve(t, address, echo, test.opt)
			if name == "full" {
				first := dial(t, address)
				if err := first.Send(duplex.Message{Type: 1}); err != nil {
					t.Fatal(err)
				}
				receive(t, first)
			}
			errs := ipctest.Collect()
			c, err := duplex.NewHandlerClient(address, func(m duplex.Message) { t.Errorf("received %+v", m) },
				udsipc.WithWriterErrorCallback(errs.Callback))
			if err == nil {
				err = errors.Join(c.Start(), c.Send(duplex.Message{Type: 1}))
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				_ = c.Stop(ctx) // Its message is never delivered.
			})
			writerErrs := ipctest.Collect()
			w := ipctest.StartedWriter(t, address, udsipc.WithWriterErrorCallback(writerErrs.Callback))
			ipctest.MustWriteMessage(t, w, "hello")
			for _, errs := range []*ipctest.Reported{errs, writerErrs} {
				if err := errs.Want(t, test.want); !strings.Contains(err.Error(), test.says) {
					t.Error(err)
				}
			}
		})
	}
}

func TestNew_BadArguments_AreErrors(t *testing.T) {
	t.Parallel()
	if _, err := duplex.NewServer("x", nil); !errors.Is(err, udsipc.ErrHandlerNil) {
		t.Error(err)
	}
	if _, err := duplex.NewHandlerClient("x", nil); !errors.Is(err, udsipc.ErrHandlerNil) {
		t.Error(err)
	}
	if _, err := duplex.NewServer("", echo); !errors.Is(err, udsipc.ErrInvalidSocketPath) {
		t.Error(err)
	}
	if _, err := duplex.NewClient("x", udsipc.WithAcknowledgements()); err == nil {
		t.Error("acknowledgements")
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range [][]byte{
		{}, {0}, {1, 2, 3}, {0x80, 0x01}, {0xff, 0xff, 0xff, 0xff, 0x0f},
		{0xff, 0xff, 0xff, 0xff, 0x10}, bytes.Repeat([]byte{0x80}, 20),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := duplex.Parse(b)
		if err != nil {
			if !errors.Is(err, duplex.ErrInvalidMessage) {
				t.Error(err)
			}
			return
		}
		again, err := duplex.Parse(duplex.Append(nil, m))
		if err != nil || again.Type != m.Type || !bytes.Equal(again.Data, m.Data) {
			t.Errorf("% x: %+v, again %+v, %v", b, m, again, err)
		}
	})
}

// TestServer_HandlerGoexit_CostsOneMessage cost their message alone, and leave no connection behind.
func TestServer_HandlerGoexit_CostsOneMessage(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	errs := make(chan error, 10)
	s := serve(t, address, func(_ context.Context, s *duplex.ServerConn, m duplex.Message) error {
		if m.Type == 1 {
			runtime.Goexit()
		}
		return s.Send(m)
	}, udsipc.WithReaderErrorCallback(func(err error, _ string) { errs <- err }))
	c := dial(t, address)
	for kind := range uint32(3) {
		if err := c.Send(duplex.Message{Type: kind}); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []uint32{0, 2} {
		if m := receive(t, c); m.Type != want {
			t.Errorf("type %d, want %d", m.Type, want)
		}
	}
	if err := <-errs; !errors.Is(err, udsipc.ErrHandlerFailed) {
		t.Error(err)
	}
	ipctest.Stop(t, c)
	ipctest.Until(t, "its connection is gone", func() bool { return s.Metrics().Connections == 0 })
}
