// SPDX-License-Identifier: Apache-2.0

package transport

// This file half-closes a connection, and finds out what can still be read and what the peer's
// kernel has.

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// maxDiscards limits the reads in a row of discarded bytes.
const maxDiscards = 64

// isTLS reports whether conn uses TLS.
func isTLS(conn net.Conn) bool {
	_, ok := conn.(*tls.Conn)
	return ok
}

// IsTCP reports whether conn is a TCP socket, or TLS over one.
func IsTCP(conn net.Conn) bool {
	kind, _ := kindOf(underlyingConn(conn))
	return kind == tcpSocket
}

// ReadableAfter reports whether bytes that the peer has sent can still be read after a write has
// failed.
func ReadableAfter(conn net.Conn, writeErr error) bool {
	kind, _ := kindOf(underlyingConn(conn))
	return kind != otherConn && (errors.Is(writeErr, syscall.EPIPE) || errors.Is(writeErr, syscall.ECONNRESET))
}

// AcknowledgedByTCP reports whether the peer's kernel has acknowledged everything that was written
// to conn. It returns true if the kernel does not report that.
func AcknowledgedByTCP(conn net.Conn) (acknowledged bool, err error) {
	kind, raw := kindOf(underlyingConn(conn))
	if kind != tcpSocket {
		return true, nil
	}
	bytes, ok := unread(raw)
	if !ok || bytes == 0 {
		return true, nil
	}
	if err := pendingError(raw); err != nil {
		return false, fmt.Errorf("%w before its system had taken everything: %w", errdefs.ErrConnectionClosed, err)
	}
	return false, nil
}

// CloseWriteWithin half-closes conn. With TLS, the close_notify may wait for a peer that does not
// read.
func CloseWriteWithin(conn net.Conn, timeout time.Duration) error {
	if !isTLS(conn) {
		return closeWrite(conn)
	}
	ended := make(chan error, 1)
	go func() { ended <- closeWrite(conn) }() // Ends with the connection at the latest.
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case err := <-ended:
		return err
	case <-timer.C:
		return fmt.Errorf("%w: it has not taken the end of TLS within %v (WithWriteTimeout)",
			errdefs.ErrBackpressure, timeout)
	}
}

// DiscardUnread reads the bytes in the socket of conn into scratch, and reports whether there were
// any. It works after a read deadline too.
func DiscardUnread(conn net.Conn, scratch []byte) (discarded bool) {
	_, raw := kindOf(underlyingConn(conn))
	if raw == nil || !canTryRead {
		return false
	}
	_ = raw.Control(func(fd uintptr) { // Not Read: a read deadline may have passed.
		for range maxDiscards {
			n, err := readDescriptor(fd, scratch)
			if n == 0 || err != nil {
				return
			}
			discarded = true
		}
	})
	return discarded
}
