// SPDX-License-Identifier: Apache-2.0

package transport

// This file is the TLS handshake of a receiving connection, before anything is read from it.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// TLSHandshake makes the TLS handshake if the connection uses TLS, and adds its state to peer.
func (in *In) TLSHandshake(ctx context.Context, timeout time.Duration, peer *Peer) error {
	secure, ok := in.conn.(*tls.Conn)
	if !ok {
		return nil
	}
	ctx, cancel := handshakeContext(ctx, timeout)
	defer cancel()
	if err := awaitTLSRecord(ctx, underlyingConn(secure)); err != nil {
		return fmt.Errorf("%w: %w", errdefs.ErrHandshake, err)
	}
	if under, ok := secure.NetConn().(*underTLS); ok {
		under.keepOpen.Store(true) // Close must not end it: the peer gets a TLS alert.
		defer under.keepOpen.Store(false)
	}
	if err := TLSHandshake(ctx, secure, timeout, peer); err != nil {
		return err
	}
	in.deadlineMu.Lock()
	defer in.deadlineMu.Unlock()
	in.end.tlsPending, in.wait.isArmed = false, false
	return nil
}

// MayBePlain reports whether a peer with which the TLS handshake failed may be a plain writer. The
// first bytes of a plain writer may look like TLS. A TLS peer ignores the report.
func (in *In) MayBePlain(failed error) bool {
	plain := tls.RecordHeaderError{}
	return errors.As(failed, &plain) || !wroteTLS(in.conn)
}
