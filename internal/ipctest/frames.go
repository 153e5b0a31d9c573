// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// Frames returns the frames of the messages.
func Frames(messages ...string) []byte {
	var b []byte
	for _, message := range messages {
		b = binary.AppendUvarint(b, uint64(len(message)))
		b = append(b, message...)
	}
	return b
}

// MustWrite writes b to conn, and fails the test on an error.
func MustWrite(tb testing.TB, conn net.Conn, b []byte) {
	tb.Helper()
	if _, err := conn.Write(b); err != nil {
		tb.Fatal(err)
	}
}

// MustDial connects to address. The connection is closed at the end of the test.
func MustDial(tb testing.TB, address string) net.Conn {
	tb.Helper()
	network, name := NetworkOf(address)
	conn, err := net.Dial(network, name)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	return conn
}

// ReadToEnd reads until the reader closes the connection. It answers a goodbye as a Writer does: it
// closes its sending side.
func ReadToEnd(tb testing.TB, conn net.Conn) {
	tb.Helper()
	b := make([]byte, 100)
	for {
		conn.SetReadDeadline(time.Now().Add(patience))
		n, err := conn.Read(b)
		if half, ok := conn.(interface{ CloseWrite() error }); ok && bytes.Contains(b[:n], []byte{0}) {
			_ = half.CloseWrite() // A Unix socket may have ended already.
		}
		if IsTimeout(err) {
			tb.Error("the connection does not end")
		}
		if err != nil {
			return
		}
	}
}

// Unhex decodes hexadecimal text with spaces.
func Unhex(tb testing.TB, text string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// Send sends messages to address over a connection of its own.
func Send(tb testing.TB, address string, messages ...string) {
	tb.Helper()
	w := StartWriter(tb, address)
	for _, message := range messages {
		MustWriteMessage(tb, w, message)
	}
	Stop(tb, w)
}

// IsTimeout reports whether err is a timeout.
func IsTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// Announced returns the first part bytes of a message of size bytes, after its length prefix.
func Announced(size, part int) []byte {
	return append(binary.AppendUvarint(nil, uint64(size)), make([]byte, part)...)
}
