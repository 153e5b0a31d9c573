// SPDX-License-Identifier: Apache-2.0

package transport_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// A lateConn fails its first writes as a socket does if the deadline passes before the write begins.
type lateConn struct {
	net.Conn
	late int
}

func (c *lateConn) Write(b []byte) (int, error) {
	if c.late--; c.late >= 0 {
		return 0, os.ErrDeadlineExceeded
	}
	return c.Conn.Write(b)
}

// TestIn_ReportLate_IsSentAnyway: a process that did not run for a while still says what it has not read.
func TestIn_ReportLate_IsSentAnyway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		in := transport.NewIn(&lateConn{here, 3}, transport.Limits{MaxMessageSize: 9}, new(testMemory))
		said := make(chan []byte)
		go func() { // Ends with the connection.
			b, _ := io.ReadAll(there)
			said <- b
		}()
		in.Reject(1)
		in.Close()
		want := "\x00" + string(wire.CloseReport{Reason: 1, FirstUnread: 1, Limit: 9}.Append(nil))
		if got := string(<-said); got != want {
			t.Errorf("it says % x, want % x", got, want)
		}
	})
}

// TestIn_TLSAlertLate_MayBePlain: a handshake that ends before its alert is sent leaves a peer that
// may be a plain writer, and has been told nothing.
func TestIn_TLSAlertLate_MayBePlain(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	in := transport.NewIn(transport.NewTLSServer(&lateConn{here, 100}, &tls.Config{}), transport.Limits{}, new(testMemory))
	defer in.CloseNow()
	go there.Write([]byte("\x16\x03\x01\xff\xff and more")) // A record that is too large. Ends with the connection.
	if err := in.TLSHandshake(t.Context(), time.Minute, new(transport.Peer)); err == nil {
		t.Error("the handshake has succeeded")
	}
	if !in.MayBePlain(context.DeadlineExceeded) { // As if it had taken too long.
		t.Error("it takes the peer for one that speaks TLS")
	}
}
