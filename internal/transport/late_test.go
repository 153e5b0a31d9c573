// SPDX-License-Identifier: Apache-2.0

package transport_test

import (
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"

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
