// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is how a connection is made to whoever listens, and what is asked of that one before a byte is sent.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync/atomic"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/transport"
)

// connect returns a connection that messages may be sent on, and who is at its other end. number counts connections.
// Errors of what follows the dialing have their operation already (errdefs.Error).
func (cfg *writerConfig) connect(ctx context.Context, number *atomic.Uint64) (net.Conn, Peer, error) {
	conn, err := cfg.dial(ctx)
	if err != nil {
		return nil, Peer{}, err
	}
	accepted := false
	defer func() {
		if !accepted { // Also if the authorizer ends the goroutine.
			transport.CloseNow(conn)
		}
	}()
	peer := transport.Peer{ID: number.Add(1), Addr: conn.RemoteAddr()}
	if conn, err = cfg.authenticate(ctx, conn, &peer); err != nil {
		return nil, Peer{}, err
	}
	accepted = true
	return conn, publicPeer(&peer), nil
}

// dial connects, within WithDialTimeout.
func (cfg *writerConfig) dial(ctx context.Context) (conn net.Conn, err error) {
	if cfg.dialer == nil {
		conn, err = cfg.address.Dial(ctx, cfg.dialTimeout, int(cfg.writeBufferSize))
	} else {
		ctx, cancel := context.WithTimeout(ctx, cfg.dialTimeout)
		defer cancel()
		if conn, err = cfg.dialer(ctx); err == nil && conn == nil {
			err = errors.New("the dialer of WithDialer returned neither a connection nor an error")
		}
	}
	switch {
	case errors.Is(err, fs.ErrPermission): // Somebody may listen.
		return nil, &errdefs.NotPermitted{Err: err}
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrNoConsumer, err)
	}
	return conn, nil
}

// writerSendBuffer is the send buffer that a Writer asks for on a Unix socket: the largest that Linux
// gives without configuration (net.core.wmem_max), which it doubles.
const writerSendBuffer = 208 << 10

// growSendBuffer asks for writerSendBuffer, unless the program has set a size or made the connection
// itself. Two processes write and read at the same time then, where they would wait for each other
// with the default, half of that. Within one process it is the other way round: what is written and
// read in turn stays in the cache of one processor. TCP sizes its buffer by itself.
func (cfg *writerConfig) growSendBuffer(conn net.Conn, peer Peer) {
	if cfg.dialer != nil || cfg.writeBufferSize != 0 || !cfg.address.IsUnix() {
		return
	}
	if peer.Credentials == nil || peer.Credentials.PID != os.Getpid() {
		transport.GrowSendBuffer(conn, writerSendBuffer)
	}
}

// authenticate makes the TLS handshake, asks the authorizer, and notes what is known of the peer. It always returns the
// connection.
func (cfg *writerConfig) authenticate(ctx context.Context, conn net.Conn, peer *transport.Peer) (net.Conn, error) {
	var err error
	if peer.Credentials, err = transport.ReadCredentials(conn); err != nil && cfg.authorizer != nil {
		return conn, errdefs.WithOp(OpAuthorize, cfg.addrText,
			fmt.Errorf("%w: the listener cannot be identified: %w", ErrUnauthorized, err))
	}
	if cfg.tls != nil {
		conn = transport.NewTLSClient(conn, cfg.clientTLS())
	}
	if err := cfg.handshake(ctx, conn, peer); err != nil {
		return conn, errdefs.WithOp(OpHandshake, cfg.addrText, err)
	}
	if err := transport.Authorize(authorizePeer(cfg.authorizer), peer); err != nil {
		return conn, errdefs.WithOp(OpAuthorize, cfg.addrText+", "+peer.String(), err)
	}
	return conn, nil
}

// errHandshakeAwaited is the answer of WaitConnected and others while the peer says nothing.
var errHandshakeAwaited = fmt.Errorf("%w: no answer from the peer yet, does it speak TLS?", ErrHandshake)

// handshake makes the TLS handshake, if there is one to make.
func (cfg *writerConfig) handshake(ctx context.Context, conn net.Conn, peer *transport.Peer) error {
	if cfg.tls != nil && cfg.awaits != nil {
		defer cfg.awaits(errHandshakeAwaited)()
	}
	return transport.TLSHandshake(ctx, conn, cfg.handshakeTimeout, peer)
}

// clientTLS is the TLS configuration with the name of the host that is connected to.
func (cfg *writerConfig) clientTLS() *tls.Config {
	if cfg.tls.ServerName != "" || cfg.address.Host() == "" {
		return cfg.tls
	}
	config := cfg.tls.Clone()
	config.ServerName = cfg.address.Host()
	return config
}
