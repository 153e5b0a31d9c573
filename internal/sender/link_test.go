// SPDX-License-Identifier: Apache-2.0

package sender_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/seam"
)

// TestLink_StateCallback_ReportsSentSeq: the callback is told in order, and Sent says what a lost connection took.
func TestLink_StateCallback_ReportsSentSeq(t *testing.T) {
	path := ipctest.SocketPath(t)
	type event struct {
		state udsipc.State
		sent  uint64
	}
	events := make(chan event, 100)
	var link *udsipc.Link
	ready := make(chan struct{})
	link = ipctest.StartLink(t, path, func([]byte) {}, udsipc.WithStateCallback(func(state udsipc.State, cause error) {
		<-ready
		if (cause != nil) != (state == udsipc.StateDisconnected) {
			t.Errorf("%v because of %v", state, cause)
		}
		events <- event{state, seam.OfLink(link).SentSeq()}
	}))
	close(ready)
	for n := uint64(1); n <= 3; n++ {
		if number, err := seam.OfLink(link).Send([]byte("away")); err != nil || number != n {
			t.Errorf("number %d, %v", number, err)
		}
	}
	l := ipctest.Listen(t, path)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := conn.ReadMessage(); err != nil {
			t.Fatal(err)
		}
	}
	if peer, ok := link.Peer(); !ok || peer.ID == 0 {
		t.Errorf("%v, %v", peer, ok)
	}
	l.Close()
	conn.Close()
	for _, want := range []event{
		{udsipc.StateConnecting, 0}, {udsipc.StateConnected, 0}, {udsipc.StateDisconnected, 3},
		{udsipc.StateConnecting, 3},
	} {
		if got := ipctest.Await(t, want.state.String(), events); got.state != want.state || got.sent != want.sent {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	ipctest.Stop(t, link)
	if got := ipctest.Await(t, "stopped", events); got.state != udsipc.StateStopped ||
		link.State() != udsipc.StateStopped {
		t.Errorf("%+v", got)
	}
	if err := link.WriteMessage(nil); !errors.Is(err, udsipc.ErrStopped) {
		t.Error(err)
	}
	if err := link.WaitConnected(t.Context()); !errors.Is(err, udsipc.ErrStopped) {
		t.Error(err)
	}
}

// TestLink_CutAtEveryByte_ResendsWhole at every byte of what it sends: each message arrives whole,
// once on some connection, unless the kernel had taken it whole before the cut.
func TestLink_CutAtEveryByte_ResendsWhole(t *testing.T) {
	stream := ipctest.Frames("one", strings.Repeat("x", 200), "three")
	whole := []int{4, 206, 212}
	for _, offset := range []int{0, 1, 3, 4, 5, 6, 7, 100, 205, 206, 207, 211} {
		path := ipctest.SocketPath(t)
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		lost := make(chan uint64, 10)
		var link *udsipc.Link
		link, err = udsipc.NewLink(path, func([]byte) {}, udsipc.WithMaxBackoff(time.Millisecond),
			udsipc.WithStateCallback(func(state udsipc.State, _ error) {
				if state == udsipc.StateDisconnected {
					lost <- seam.OfLink(link).SentSeq()
				}
			}), udsipc.WithDialer(func(ctx context.Context) (net.Conn, error) {
				var d net.Dialer
				conn, err := d.DialContext(ctx, "unix", path)
				if err != nil {
					return nil, err
				}
				return &brokenConn{Conn: conn, left: offset}, nil
			}))
		if err != nil {
			t.Fatal(err)
		}
		for _, message := range []string{"one", strings.Repeat("x", 200), "three"} {
			if err := link.WriteMessage([]byte(message)); err != nil {
				t.Fatal(err)
			}
		}
		if err := link.Start(); err != nil {
			t.Fatal(err)
		}
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); string(got) != string(stream[:offset]) {
			t.Errorf("cut at %d: %q, %v", offset, got, err)
		}
		conn.Close()
		want := uint64(0)
		for _, end := range whole {
			if end <= offset {
				want++
			}
		}
		if got := ipctest.Await(t, "the loss", lost); got != want {
			t.Errorf("cut at %d: %d messages count as sent, want %d", offset, got, want)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = link.Stop(ctx) // The rest is not of interest.
		l.Close()
	}
}

// A brokenConn breaks after so many bytes.
type brokenConn struct {
	net.Conn
	left int
}

func (c *brokenConn) Write(b []byte) (int, error) {
	n := min(len(b), c.left)
	c.left -= n
	if n > 0 {
		if n, err := c.Conn.Write(b[:n]); err != nil {
			return n, err
		}
	}
	if n < len(b) {
		c.Conn.Close()
		return n, io.ErrClosedPipe
	}
	return n, nil
}
