// SPDX-License-Identifier: Apache-2.0

package systemd

// This file is for a service that gets one connection instead of a listener.

import (
	"io"
	"net"
)

// A passedConnection is the listener of a service with Accept=yes (systemd.socket(5)): systemd
// passes it one accepted connection. Accept returns this connection, and then io.EOF.
type passedConnection struct {
	conn     net.Conn
	accepted bool // Used by Accept, which one goroutine calls.
}

func (l *passedConnection) Accept() (net.Conn, error) {
	if l.accepted {
		return nil, io.EOF
	}
	l.accepted = true
	return l.conn, nil
}

func (l *passedConnection) Close() error { return nil } // The caller of Accept owns the connection.

func (l *passedConnection) Addr() net.Addr { return l.conn.LocalAddr() }

// OnlyConnection returns the connection if listener is a passedConnection, otherwise nil.
func OnlyConnection(listener net.Listener) net.Conn {
	if single, ok := listener.(*passedConnection); ok {
		return single.conn
	}
	return nil
}
