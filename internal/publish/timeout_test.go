// SPDX-License-Identifier: Apache-2.0

package publish_test

import (
	"bufio"
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
