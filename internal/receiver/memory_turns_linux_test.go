// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

const stallers = 60

func init() {
	// Sends a part of a large message on each of many connections, and leaves it at that.
	ipctest.Roles["staller"] = func() error {
		for range stallers {
			conn, err := net.Dial("unix", os.Getenv("SOCKET"))
			if err != nil {
				return err
			}
			go func() {
				conn.Write(ipctest.Announced(1<<20, 900<<10))
				conn.Read(make([]byte, 1))
			}()
		}
		fmt.Println("ready")
		select {}
	}
}

// TestReadMemory_OtherUserStalls_DoesNotBlock: another user's connections that stall do not hold up
// a message of this one's.
func TestReadMemory_OtherUserStalls_DoesNotBlock(t *testing.T) {
	dir := ipctest.OpenDir(t)
	path := filepath.Join(dir, "s")
	var got atomic.Int64
	r := ipctest.StartReader(t, func([]byte) error { got.Add(1); return nil }, path, udsipc.WithSocketMode(0o666),
		udsipc.WithMaxReadMemory(1<<20), udsipc.WithMessageTimeout(100*time.Millisecond))
	_, says := ipctest.AsNobody(t, dir, "staller", "SOCKET="+path)
	says.Scan()
	ipctest.Until(t, "most wait for memory", func() bool { return r.Metrics().ReadMemoryWaits >= stallers/2 })
	before := r.Metrics().TooSlow
	go ipctest.MustDial(t, path).Write(ipctest.Announced(1<<20, 1<<20))
	ipctest.Until(t, "the message is handled", func() bool { return got.Load() == 1 })
	if ended := r.Metrics().TooSlow - before; ended > stallers/2 {
		t.Errorf("%d connections of another user came before it", ended)
	}
}
