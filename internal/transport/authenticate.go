// SPDX-License-Identifier: Apache-2.0

package transport

// This file authenticates the peer before the first byte of a message: credentials, TLS, and the
// authorizer.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/peercred"
)

// ReadCredentials returns the credentials of conn's peer, from the kernel.
func ReadCredentials(conn net.Conn) (*peercred.Credentials, error) {
	kind, raw := kindOf(underlyingConn(conn))
	if kind != unixSocket {
		return nil, nil
	}
	found, err := peercred.Of(raw)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil, nil
	}
	return found, err
}

// handshakeContext returns a context that ends after timeout. Its cause names the option.
func handshakeContext(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	cause := fmt.Errorf("WithHandshakeTimeout(%v): %w", timeout, context.DeadlineExceeded)
	return context.WithTimeoutCause(ctx, timeout, cause)
}

// TLSHandshake makes the TLS handshake if conn uses TLS, and adds its state to peer.
func TLSHandshake(ctx context.Context, conn net.Conn, timeout time.Duration, peer *Peer) error {
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return nil
	}
	ctx, cancel := handshakeContext(ctx, timeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = errdefs.First(context.Cause(ctx), err)
		}
		return fmt.Errorf("%w: %w", errdefs.ErrHandshake, err)
	}
	state := secure.ConnectionState()
	peer.TLS = &state
	return nil
}

// errNotTLS is the error for a client that does not use TLS.
var errNotTLS = errors.New("the peer does not speak TLS")

// tlsHandshakeRecord is the first byte of a TLS handshake (RFC 8446, 5.1).
const tlsHandshakeRecord = 22

// awaitTLSRecord waits for the first byte of a client and leaves it unread. A client that does not
// use TLS gets a report, or sees by a reset that nothing was read. Where the byte cannot be peeked
// at, the handshake fails instead.
func awaitTLSRecord(ctx context.Context, conn net.Conn) error {
	_, raw := kindOf(conn)
	if raw == nil || !canTryRead {
		return nil
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(PastDeadline) })
	var first [1]byte
	var n int
	var peekErr error
	err := raw.Read(func(fd uintptr) bool {
		n, peekErr = peekDescriptor(fd, first[:])
		return !errors.Is(peekErr, syscall.EAGAIN)
	})
	if !stop() {
		return context.Cause(ctx) // The deadline in the past stays: nothing more is read.
	}
	if err = errdefs.First(err, peekErr); err == nil && n > 0 && first[0] != tlsHandshakeRecord {
		return fmt.Errorf("%w: its first byte is %#02x", errNotTLS, first[0])
	}
	return err // At the end of the stream, the handshake returns the error.
}

// Authorize calls authorizer, which may be nil, with peer.
func Authorize(authorizer func(*Peer) error, peer *Peer) (err error) {
	if authorizer == nil {
		return nil
	}
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("%w: the authorizer panicked: %v", errdefs.ErrUnauthorized, value)
		}
	}()
	if err := authorizer(peer); err != nil {
		return fmt.Errorf("%w: %w", errdefs.ErrUnauthorized, err)
	}
	return nil
}
