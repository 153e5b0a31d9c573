// SPDX-License-Identifier: Apache-2.0

package transport_test

// The connection beneath TLS, which notes how the stream has ended.

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/transport"
)

// A scriptConn returns the results of a script, one for each Read.
type scriptConn struct {
	pieceConn
	reads    []scriptedRead
	deadline time.Time
	closed   bool
}

type scriptedRead struct {
	text string
	err  error
}

func (c *scriptConn) Read(b []byte) (int, error) {
	if len(c.reads) == 0 {
		return 0, errors.New("one read too many")
	}
	next := c.reads[0]
	c.reads = c.reads[1:]
	return copy(b, next.text), next.err
}

func (c *scriptConn) SetDeadline(at time.Time) error { c.deadline = at; return nil }
func (c *scriptConn) Close() error                   { c.closed = true; return nil }

// beneath returns TLS over a connection, and what lies between.
func beneath(conn net.Conn) (secure, under net.Conn) {
	secure = transport.NewTLSServer(conn, &tls.Config{})
	return secure, secure.(*tls.Conn).NetConn()
}

// TestUnderTLS_Read_NotesRawEnd, which it returns alone. An error is no end.
func TestUnderTLS_Read_NotesRawEnd(t *testing.T) {
	broken := errors.New("broken")
	for what, test := range map[string]struct {
		reads, want []scriptedRead
		raw         bool
	}{
		"an end":            {[]scriptedRead{{"a", nil}, {"", io.EOF}}, []scriptedRead{{"a", nil}, {"", io.EOF}}, true},
		"bytes with an end": {[]scriptedRead{{"ab", io.EOF}}, []scriptedRead{{"ab", nil}, {"", io.EOF}, {"", io.EOF}}, true},
		"only bytes yet":    {[]scriptedRead{{"ab", io.EOF}}, []scriptedRead{{"ab", nil}}, false},
		"a deadline": {
			[]scriptedRead{{"", os.ErrDeadlineExceeded}, {"a", nil}},
			[]scriptedRead{{"", os.ErrDeadlineExceeded}, {"a", nil}}, false,
		},
		"bytes and error": {[]scriptedRead{{"a", broken}}, []scriptedRead{{"a", broken}}, false},
	} {
		secure, under := beneath(&scriptConn{reads: test.reads})
		for i, want := range test.want {
			b := make([]byte, 9)
			if n, err := under.Read(b); string(b[:n]) != want.text || err != want.err {
				t.Errorf("%s: read %d gives %q, %v, want %q, %v", what, i, b[:n], err, want.text, want.err)
			}
		}
		if transport.EndedByNotify(secure) == test.raw {
			t.Errorf("%s: ended without a notice %v, want %v", what, !test.raw, test.raw)
		}
	}
}

// TestUnderTLS_Foreign_IsTakenAsItIs: nothing is noted of TLS that somebody else has made.
func TestUnderTLS_Foreign_IsTakenAsItIs(t *testing.T) {
	conn := &scriptConn{}
	secure := tls.Client(conn, &tls.Config{})
	if !transport.EndedByNotify(secure) || transport.WroteTLS(secure) || !transport.IsTLS(secure) {
		t.Error("something is noted of it")
	}
	transport.CloseNow(secure)
	if !conn.closed {
		t.Error("the connection beneath is open")
	}
	own, under := beneath(&scriptConn{})
	if _, err := under.Write([]byte("a")); err != nil || !transport.WroteTLS(own) {
		t.Errorf("%v, wrote %v", err, transport.WroteTLS(own))
	}
}
