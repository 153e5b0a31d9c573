// SPDX-License-Identifier: Apache-2.0

package transport_test

// The half-close, and writes that do not wait, of each kind of connection.

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/transport"
)

// TestTryWriter_FullSocket_ReportsFull writes what there is room for, and says when that is all.
func TestTryWriter_FullSocket_ReportsFull(t *testing.T) {
	pipe, _ := net.Pipe()
	if transport.NewTryWriter(pipe) != nil {
		t.Error("a pipe can be tried")
	}
	near, far := ipctest.SocketPair(t)
	w := transport.NewTryWriter(near)
	if w == nil {
		t.Fatal("a socket cannot be tried")
	}
	if n, full, err := w.Write([][]byte{[]byte("abc"), nil, []byte("d"), []byte("e")}); n != 5 || full || err != nil {
		t.Errorf("%d bytes, full %v, %v", n, full, err)
	}
	written := 5
	for full := false; !full; {
		n, isFull, err := w.Write([][]byte{make([]byte, 10_000), make([]byte, 10_000)})
		if written, full = written+n, isFull; full != (err != nil) ||
			full && !errors.Is(err, syscall.EAGAIN) || !full && n != 20_000 {
			t.Fatalf("%d bytes, full %v, %v", n, full, err)
		}
	}
	near.Close()
	if b, err := io.ReadAll(far); len(b) != written || string(b[:6]) != "abcde\x00" || err != nil {
		t.Errorf("%d bytes of %d arrive, %v", len(b), written, err)
	}
	if n, full, err := w.Write([][]byte{[]byte("abc")}); n != 0 || full || err == nil {
		t.Errorf("%d bytes, full %v, %v", n, full, err)
	}
}

// TestHalfClose_EachKind_BehavesAsItsKind: what is asked of a connection of each kind.
func TestHalfClose_EachKind_BehavesAsItsKind(t *testing.T) {
	near, far := ipctest.SocketPair(t)
	pipe, _ := net.Pipe()
	client, server := tcpPair(t)
	if !transport.IsTCP(client) || transport.IsTCP(near) || transport.IsTCP(pipe) || transport.IsTLS(near) {
		t.Error("the kinds are mixed up")
	}
	for _, test := range []struct {
		conn net.Conn
		err  error
		want bool
	}{
		{near, syscall.EPIPE, true}, {near, syscall.ECONNRESET, true}, {near, io.EOF, false},
		{pipe, syscall.EPIPE, false}, {client, syscall.EPIPE, true},
	} {
		if got := transport.ReadableAfter(test.conn, test.err); got != test.want {
			t.Errorf("readable after %v: %v", test.err, got)
		}
	}
	if ok, err := transport.AcknowledgedByTCP(near); !ok || err != nil {
		t.Error(ok, err)
	}
	if ok, err := transport.AcknowledgedByTCP(client); !ok || err != nil {
		t.Error(ok, err)
	}
	scratch := make([]byte, 10)
	if transport.DiscardUnread(near, scratch) || transport.DiscardUnread(pipe, scratch) {
		t.Error("something was there")
	}
	if _, err := far.Write(make([]byte, 25)); err != nil {
		t.Fatal(err)
	}
	if !transport.DiscardUnread(near, scratch) || transport.DiscardUnread(near, scratch) {
		t.Error("not all was discarded")
	}
	if _, err := far.Write(make([]byte, 640)); err != nil {
		t.Fatal(err)
	}
	if !transport.DiscardUnread(near, scratch) || transport.DiscardUnread(near, scratch) {
		t.Error("64 reads are too many")
	}
	if _, err := far.Write(make([]byte, 650)); err != nil {
		t.Fatal(err)
	}
	first, second, third := transport.DiscardUnread(near, scratch),
		transport.DiscardUnread(near, scratch), transport.DiscardUnread(near, scratch)
	if !first || !second || third {
		t.Error("the reads in a row are not bounded by 64")
	}
	if err := transport.CloseWriteWithin(near, time.Second); err != nil {
		t.Error(err)
	}
	if n, err := far.Read(scratch); n != 0 || err != io.EOF {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := transport.CloseWriteWithin(pipe, time.Second); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if !transport.EndedByNotify(near) || transport.WroteTLS(near) {
		t.Error("a plain connection is taken for TLS")
	}
	transport.EndSending(client)
	if n, err := server.Read(scratch); n != 0 || err != io.EOF {
		t.Errorf("%d bytes, %v", n, err)
	}
	transport.EndSending(far)
	if _, err := far.Write([]byte("x")); err != nil {
		t.Errorf("the sending side of a Unix socket was ended: %v", err)
	}
}
