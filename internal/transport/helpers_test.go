// SPDX-License-Identifier: Apache-2.0

package transport_test

// What connections of tests are made of.

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// A testMemory is a limit on read buffers that does what a test says.
type testMemory struct {
	Left    int64
	Waits   atomic.Bool // Others wait.
	Granted chan struct{}
	Cancels int
	User    string   // Of the last reservation.
	Tickets []uint64 // Of each that has waited, when it began to.
}

func (m *testMemory) TryReserve(l *transport.Reservation, size int) bool {
	if more := transport.CountedSize(size) - l.Bytes; more <= m.Left {
		m.Left -= more
		l.Bytes += more
		m.User = l.User
		return true
	}
	return false
}

func (m *testMemory) Reserve(l *transport.Reservation, size int) <-chan struct{} {
	m.Tickets = append(m.Tickets, l.Ticket)
	l.Ticket = 7
	if m.Granted == nil {
		m.Granted = make(chan struct{})
	}
	l.Bytes = transport.CountedSize(size)
	return m.Granted
}

func (m *testMemory) Cancel(*transport.Reservation) { m.Cancels++ }

func (m *testMemory) Release(l *transport.Reservation, bytes int64) {
	m.Left += bytes
	l.Bytes -= bytes
}

func (m *testMemory) Contested() bool { return m.Waits.Load() }

// A pieceConn is read piece by piece.
type pieceConn struct {
	net.Conn // nil; what is not below is not called.
	pieces   [][]byte
}

func (c *pieceConn) Read(b []byte) (int, error) {
	for len(c.pieces) > 0 && len(c.pieces[0]) == 0 {
		c.pieces = c.pieces[1:]
	}
	if len(c.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.pieces[0])
	c.pieces[0] = c.pieces[0][n:]
	return n, nil
}

func (c *pieceConn) Write(b []byte) (int, error) { return len(b), nil }

func (c *pieceConn) SetReadDeadline(time.Time) error { return nil }

func (c *pieceConn) SetWriteDeadline(time.Time) error { return nil }

func (c *pieceConn) Close() error { return nil }

// bufs are the slices of a write.
func bufs(texts ...string) (b [][]byte) {
	for _, text := range texts {
		b = append(b, []byte(text))
	}
	return b
}

func tcpPair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// isTimeoutError says whether a deadline has passed.
func isTimeoutError(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// framed is a message as it is written.
func framed(message string) string { return string(wire.AppendFrame(nil, []byte(message))) }
