// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the TLS handshake of a receiving connection, before anything is read from it.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"
)

// handshake makes the TLS handshake, if the connection speaks it, and notes what is known of the
// peer then.
func (in *inbound) handshake(ctx context.Context, timeout time.Duration, peer *peer) error {
	secure, ok := in.conn.(*tls.Conn)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := awaitTLS(ctx, secure.NetConn()); err != nil {
		return fmt.Errorf("%w: %w", errHandshake, err)
	}
	if under, ok := secure.NetConn().(*beneathTLS); ok {
		under.keeps.Store(true) // The peer is told why.
		defer under.keeps.Store(false)
	}
	if err := handshake(ctx, secure, timeout, peer); err != nil {
		return err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.end.greeting = false
	return nil
}

// mayBePlain reports whether a peer with which the handshake failed may have sent messages: what
// looks like TLS may be the beginning of one. A peer that speaks TLS does not mind to be told.
func (in *inbound) mayBePlain(failed error) bool {
	plain := tls.RecordHeaderError{}
	return errors.As(failed, &plain) || !spokeTLS(in.conn)
}
