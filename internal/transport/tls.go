// SPDX-License-Identifier: Apache-2.0

package transport

// This file has the connection beneath TLS, and the end of a connection over TLS.

import (
	"crypto/tls"
	"io"
	"net"
	"sync/atomic"
)

// underlyingConn returns the connection beneath TLS, or conn itself.
func underlyingConn(conn net.Conn) net.Conn {
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return conn
	}
	under := secure.NetConn()
	if watched, ok := under.(*underTLS); ok {
		return watched.Conn
	}
	return under
}

// CloseNow closes conn without a close_notify, for which TLS may wait five seconds (crypto/tls,
// Conn.Close).
func CloseNow(conn net.Conn) { _ = underlyingConn(conn).Close() }

// NewTLSServer returns the server's end of TLS over conn.
func NewTLSServer(conn net.Conn, config *tls.Config) net.Conn {
	return tls.Server(&underTLS{Conn: conn}, config)
}

// NewTLSClient returns the client's end of TLS over conn.
func NewTLSClient(conn net.Conn, config *tls.Config) net.Conn {
	return tls.Client(&underTLS{Conn: conn}, config)
}

// An underTLS is a connection that TLS is spoken over. It notes whether it has ended by itself:
// for crypto/tls, such an end between two records is io.EOF like the end that the peer announces.
// TLS writes nothing vectored, so a wrapper costs nothing there.
type underTLS struct {
	net.Conn
	pendingEOF bool // The end came with the last bytes. The reading goroutine's.
	rawEOF     atomic.Bool
	wrote      atomic.Bool // TLS has written something.
	// Close only interrupts: a handshake that takes too long would close it (crypto/tls,
	// Conn.HandshakeContext).
	keepOpen atomic.Bool
}

func (b *underTLS) Close() error {
	if b.keepOpen.Load() {
		return b.Conn.SetDeadline(PastDeadline)
	}
	return b.Conn.Close()
}

func (b *underTLS) Write(p []byte) (int, error) {
	n, err := b.Conn.Write(p)
	if n > 0 { // Not an alert that came too late: a plain writer is still to be told.
		b.wrote.Store(true)
	}
	return n, err
}

// wroteTLS reports whether this end of conn has written TLS, as far as that is known.
func wroteTLS(conn net.Conn) bool {
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return false
	}
	under, ok := secure.NetConn().(*underTLS)
	return ok && under.wrote.Load()
}

func (b *underTLS) Read(p []byte) (n int, err error) {
	if !b.pendingEOF {
		n, err = b.Conn.Read(p)
	}
	switch {
	case b.pendingEOF, n == 0 && err == io.EOF:
		b.rawEOF.Store(true)
		return 0, io.EOF
	case err == io.EOF:
		b.pendingEOF = true // TLS may find its own end in these bytes, and not ask again.
		return n, nil
	}
	return n, err
}

// EndedByNotify reports whether the peer has announced the end of file of conn, as TLS demands;
// always true without TLS.
func EndedByNotify(conn net.Conn) bool {
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return true
	}
	under, ok := secure.NetConn().(*underTLS)
	return !ok || !under.rawEOF.Load()
}

// EndSending half-closes conn: by close_notify over TLS, by FIN on TCP. The close_notify may wait
// for a peer that does not read, until conn is closed.
func EndSending(conn net.Conn) {
	under := underlyingConn(conn)
	if under != conn {
		_ = closeWrite(conn) // Closing it whole comes next and tells more.
	}
	if kind, _ := kindOf(under); kind == tcpSocket {
		_ = closeWrite(under)
	}
}
