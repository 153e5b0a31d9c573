// SPDX-License-Identifier: Apache-2.0

package publish_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/publish"
)

// TestPublication_SlowClients_AreDisconnected: one that asks for nothing, and one that reads nothing.
func TestPublication_SlowClients_AreDisconnected(t *testing.T) {
	for what, test := range map[string]struct {
		client func(conn net.Conn)
		want   time.Duration
	}{
		"reads nothing": {func(net.Conn) {}, time.Second},
		"asks for nothing": {func(conn net.Conn) {
			_, _ = io.Copy(io.Discard, conn)
		}, time.Minute},
		"asks once, and then for nothing": {func(conn net.Conn) {
			lines := bufio.NewReader(conn)
			_, _ = lines.ReadString('\n')
			time.Sleep(30 * time.Second)
			_, _ = conn.Write([]byte("\n"))
			_, _ = io.Copy(io.Discard, lines)
		}, 90 * time.Second},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := publish.New(publish.Config{Name: "x", Kind: "writer", Snapshot: func() any { return struct{}{} }})
				server, client := net.Pipe()
				defer client.Close()
				go test.client(client)
				began := time.Now()
				publish.Serve(p, server)
				if took := time.Since(began); took != test.want {
					t.Errorf("it ended after %v, want %v", took, test.want)
				}
			})
		})
	}
}

// A failing listener accepts nothing for some time.
type failing struct {
	net.Listener // nil.
	until        time.Time
}

func (l *failing) Accept() (net.Conn, error) {
	if time.Now().Before(l.until) {
		return nil, errors.New("too many open files")
	}
	return nil, net.ErrClosed
}

// TestPublication_AcceptFails_GoesOn: it waits until there are files again, reports once, and Stop does not wait.
func TestPublication_AcceptFails_GoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reports := 0
		p := publish.New(publish.Config{Name: "x", Report: func(error) { reports++ }})
		began := time.Now()
		publish.Run(p, &failing{until: began.Add(time.Hour)})
		if took := time.Since(began); took != time.Hour || reports != 1 {
			t.Errorf("it ended after %v, with %d reports", took, reports)
		}
		time.AfterFunc(time.Millisecond, p.Stop)
		began = time.Now()
		publish.Run(p, &failing{until: began.Add(time.Hour)})
		if took := time.Since(began); took != time.Millisecond {
			t.Errorf("it ended %v after Stop", took)
		}
	})
}
