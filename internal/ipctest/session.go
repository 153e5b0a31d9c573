// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/wire"
)

// AwaitAck reads acknowledgements until that of message.
func AwaitAck(tb testing.TB, conn net.Conn, message byte) {
	tb.Helper()
	conn.SetReadDeadline(time.Now().Add(patience))
	for b := make([]byte, 1); b[0] != message; {
		if _, err := conn.Read(b); err != nil {
			tb.Fatalf("waiting for the acknowledgement of message %d: %v", message, err)
		}
	}
}

// AwaitWelcome reads a welcome from conn.
func AwaitWelcome(tb testing.TB, conn net.Conn) wire.Welcome {
	tb.Helper()
	b := make([]byte, 0, 200)
	for {
		conn.SetReadDeadline(time.Now().Add(patience))
		n, err := conn.Read(b[len(b) : len(b)+1])
		b = b[:len(b)+n]
		if slices.Equal(b, []byte{0x80, 0x00}) {
			b = b[:0] // A heartbeat.
		}
		w, size, bad := wire.ParseWelcome(b)
		if bad != nil || size == 0 && err != nil {
			tb.Fatalf("% x, want a welcome: %v", b, errors.Join(bad, err))
		}
		if size > 0 {
			return w
		}
	}
}

// OpenSession connects to address and calls SayHello.
func OpenSession(tb testing.TB, address string, h wire.Hello, messages ...string) (net.Conn, wire.Welcome) {
	tb.Helper()
	conn := MustDial(tb, address)
	return conn, SayHello(tb, conn, h, messages...)
}

// SayHello sends a hello and messages over conn, and returns the welcome.
func SayHello(tb testing.TB, conn net.Conn, h wire.Hello, messages ...string) wire.Welcome {
	tb.Helper()
	MustWrite(tb, conn, h.Append(nil))
	w := AwaitWelcome(tb, conn)
	MustWrite(tb, conn, Frames(messages...))
	return w
}
