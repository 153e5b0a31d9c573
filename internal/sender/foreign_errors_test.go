// SPDX-License-Identifier: Apache-2.0

package sender_test

// This file is about errors of a program's own dialer, connection, authorizer and context that wrap errors of this
// package, because the program uses it there as well.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// errInner is what another connection of the program has returned.
var errInner = &udsipc.OpError{
	Op: udsipc.OpHandle, Addr: "another",
	Err: fmt.Errorf("%w and %w: inner", udsipc.ErrStopped, udsipc.ErrHandshake),
}

// A failingConn fails to write or to read with errInner once something is wrong.
type failingConn struct {
	net.Conn
	writes bool // Every write fails.
}

func (c failingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		err = errInner
	}
	return n, err
}

func (c failingConn) Write(b []byte) (int, error) {
	if c.writes {
		return 0, errInner
	}
	return c.Conn.Write(b)
}

// TestWriter_ForeignErrors_AreReportedAsItsOwn: each is an OpError with the Writer's operation, and
// no such error ends the Writer or a connection without a word.
func TestWriter_ForeignErrors_AreReportedAsItsOwn(t *testing.T) {
	for name, test := range map[string]struct {
		op        string
		dials     bool // The dialer fails once.
		asks      bool // The authorizer fails once.
		writes    bool // The first connection cannot write.
		acks      bool
		wantCount func(m udsipc.WriterMetrics) uint64
	}{
		"dialer": {op: udsipc.OpDial, dials: true,
			wantCount: func(m udsipc.WriterMetrics) uint64 { return m.DialErrors - m.HandshakeErrors - m.Unauthorized }},
		"authorizer": {op: udsipc.OpAuthorize, asks: true,
			wantCount: func(m udsipc.WriterMetrics) uint64 { return m.Unauthorized - m.HandshakeErrors }},
		"write": {writes: true,
			wantCount: func(m udsipc.WriterMetrics) uint64 { return m.LostConnections }},
		"hello": {op: udsipc.OpOpenSession, writes: true, acks: true,
			wantCount: func(m udsipc.WriterMetrics) uint64 { return m.DialErrors - m.HandshakeErrors }},
	} {
		t.Run(name, func(t *testing.T) {
			path := ipctest.SocketPath(t)
			ipctest.StartReader(t, ipctest.Ignore, path)
			errs, lost := ipctest.Collect(), make(chan error, 100)
			dials, asks := 0, 0
			opts := []udsipc.WriterOption{
				udsipc.WithWriterErrorCallback(errs.Callback),
				udsipc.WithStateCallback(func(state udsipc.State, cause error) {
					if state == udsipc.StateDisconnected {
						lost <- cause
					}
				}),
				udsipc.WithDialer(func(ctx context.Context) (net.Conn, error) {
					if dials++; test.dials && dials == 1 {
						return nil, errInner
					}
					conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
					if err == nil && test.writes && dials == 1 {
						conn = failingConn{Conn: conn, writes: true}
					}
					return conn, err
				}),
				udsipc.WithAuthorizer(func(udsipc.Peer) error {
					if asks++; test.asks && asks == 1 {
						return errInner
					}
					return nil
				}),
			}
			if test.acks {
				opts = append(opts, udsipc.WithAcknowledgements())
			}
			w := ipctest.StartWriter(t, path, opts...)
			ipctest.MustWriteMessage(t, w, "it arrives")
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if err := w.Flush(ctx); err != nil {
				t.Fatalf("Flush: %v", err)
			}
			if n := test.wantCount(w.Metrics()); n != 1 {
				t.Errorf("counted %d times: %+v", n, w.Metrics())
			}
			if test.op == "" {
				if cause := ipctest.Await(t, "the end", lost); !errors.Is(cause, error(errInner)) {
					t.Errorf("the cause is %v", cause)
				}
				return
			}
			if err := errs.Want(t, errInner).(*udsipc.OpError); err.Op != test.op || err.Addr == errInner.Addr {
				t.Errorf("reported: %v", err)
			}
		})
	}
}

// TestWriter_ForeignReadError_IsCauseOfPossibleLoss: a PossibleLossError is found in the report whatever its cause is.
func TestWriter_ForeignReadError_IsCauseOfPossibleLoss(t *testing.T) {
	path := ipctest.SocketPath(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	errs := ipctest.Collect()
	w := ipctest.NewWriter(t, path, udsipc.WithWriterErrorCallback(errs.Callback),
		udsipc.WithDialer(func(ctx context.Context) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
			return failingConn{Conn: conn}, err
		}))
	ipctest.MustStart(t, w)
	ipctest.MustWriteMessage(t, w, "nobody reads this")
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ipctest.Until(t, "it is sent", func() bool { return w.Metrics().Sent == 1 })
	conn.Close()
	var loss *udsipc.PossibleLossError
	if err := errs.Want(t, errInner); !errors.As(err, &loss) || loss.Messages != 1 ||
		err.(*udsipc.OpError).Op != udsipc.OpWrite {
		t.Errorf("reported: %v", err)
	}
}

// TestForeignContextCause_KeepsOperation: the error of what has waited has its own operation,
// whatever ended the context.
func TestForeignContextCause_KeepsOperation(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errInner)
	path := ipctest.SocketPath(t)
	w := ipctest.NewWriter(t, path)
	link, err := udsipc.NewLink(path, func([]byte) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, write := range []func([]byte) error{w.WriteMessage, link.WriteMessage} {
		if err := write([]byte("nobody takes this")); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name, op string
		err      error
	}{
		{"Writer.Flush", udsipc.OpFlush, w.Flush(ctx)},
		{"Writer.WaitConnected", udsipc.OpWaitConnected, w.WaitConnected(ctx)},
		{"Writer.Stop", udsipc.OpStop, w.Stop(ctx)},
		{"Link.Flush", udsipc.OpFlush, link.Flush(ctx)},
		{"Link.WaitConnected", udsipc.OpWaitConnected, link.WaitConnected(ctx)},
		{"Link.Stop", udsipc.OpStop, link.Stop(ctx)},
	} {
		if err, ok := test.err.(*udsipc.OpError); !ok || err.Op != test.op || err.Addr != path ||
			!errors.Is(err, error(errInner)) {
			t.Errorf("%s: %T %v", test.name, test.err, test.err)
		}
	}
}
