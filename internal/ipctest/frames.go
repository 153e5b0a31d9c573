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

func Frames(messages ...string) []byte {
	var b []byte
	for _, message := range messages {
		b = binary.AppendUvarint(b, uint64(len(message)))
		b = append(b, message...)
	}
	return b
}

func MustWrite(tb testing.TB, conn net.Conn, b []byte) {
	tb.Helper()
	if _, err := conn.Write(b); err != nil {
		tb.Fatal(err)
	}
}

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

// ReadToEnd reads as a writer by hand does that knows the goodbye: it closes its sending side then.
func ReadToEnd(tb testing.TB, conn net.Conn) {
	tb.Helper()
	b := make([]byte, 100)
	for {
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := conn.Read(b)
		if half, ok := conn.(interface{ CloseWrite() error }); ok && bytes.Contains(b[:n], []byte{0}) {
			_ = half.CloseWrite() // A Unix socket may be at its end already.
		}
		if IsTimeout(err) {
			tb.Error("the connection does not end")
		}
		if err != nil {
			return
		}
	}
}

func Unhex(tb testing.TB, text string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// Send delivers messages to address.
func Send(tb testing.TB, address string, messages ...string) {
	tb.Helper()
	w := StartWriter(tb, address)
	for _, message := range messages {
		MustWriteMessage(tb, w, message)
	}
	Stop(tb, w)
}

func IsTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// Announced is the first part of a message of size bytes.
func Announced(size, part int) []byte {
	return append(binary.AppendUvarint(nil, uint64(size)), make([]byte, part)...)
}
