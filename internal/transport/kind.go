// SPDX-License-Identifier: Apache-2.0

package transport

// This file has what all connections share: the kind, and what the kernel reports about it.
// out_write.go and in_read.go are the two directions; kernel_linux.go and its siblings have the
// system calls.

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// Limits of one write.
const (
	BatchSize = 256 << 10 // Bytes, about what a socket holds.
	MaxVector = 64        // Slices.
)

// A connKind is the kind of a connection: it decides what its end means.
type connKind int

const (
	otherConn  connKind = iota // Anything: in memory, TLS, a user's own.
	unixSocket                 // A *net.UnixConn, and nothing around it.
	tcpSocket                  // A *net.TCPConn, and nothing around it.
)

// kindOf returns the kind of conn, and its descriptor for system calls; nil for otherConn. A type
// that merely embeds a socket is otherConn, because its own methods may do more.
func kindOf(conn net.Conn) (connKind, syscall.RawConn) {
	var kind connKind
	var raw syscall.RawConn
	var err error
	switch conn := conn.(type) {
	case *net.UnixConn:
		kind = unixSocket
		raw, err = conn.SyscallConn()
	case *net.TCPConn:
		kind = tcpSocket
		raw, err = conn.SyscallConn()
	}
	if err != nil || raw == nil {
		return otherConn, nil
	}
	return kind, raw
}

// PastDeadline is a deadline that interrupts a blocked read or write.
var PastDeadline = time.Unix(1, 0)

// IsTimeout reports whether err comes from a deadline.
func IsTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// closeWrite half-closes conn, if that is possible.
func closeWrite(conn net.Conn) error {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}
