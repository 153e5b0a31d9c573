// SPDX-License-Identifier: Apache-2.0

package systemd

// This file is the service that gets one connection instead of a listener.

import (
	"io"
	"net"
)

// A passedConnection is the listener of a service with Accept=yes (systemd.socket(5)), which gets one
// connection that systemd has accepted. It gives out that one, and then io.EOF.
type passedConnection struct {
	conn     net.Conn
	accepted bool // Accept is called by one goroutine.
}

func (l *passedConnection) Accept() (net.Conn, error) {
	if l.accepted {
		return nil, io.EOF
	}
	l.accepted = true
	return l.conn, nil
}

func (l *passedConnection) Close() error { return nil } // The connection is for whom it was given to.

func (l *passedConnection) Addr() net.Addr { return l.conn.LocalAddr() }

// OnlyConnection returns the connection of a listener that gives out no other, or nil.
func OnlyConnection(listener net.Listener) net.Conn {
	if single, ok := listener.(*passedConnection); ok {
		return single.conn
	}
	return nil
}
