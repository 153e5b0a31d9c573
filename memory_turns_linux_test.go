// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

const stallers = 60

func init() {
	roles["staller"] = func() error { // Sends a part of a large message on each of many connections, and leaves it at that.
		for range stallers {
			conn, err := net.Dial("unix", os.Getenv("SOCKET"))
			if err != nil {
				return err
			}
			go func() {
				conn.Write(announced(1<<20, 900<<10))
				conn.Read(make([]byte, 1))
			}()
		}
		fmt.Println("ready")
		select {}
	}
}

// TestMemoryTurnsOfUsers: another user's connections that stall do not hold up a message of this one's.
func TestMemoryTurnsOfUsers(t *testing.T) {
	folder := openFolder(t)
	path := filepath.Join(folder, "s")
	var got atomic.Int64
	r := startReader(t, func([]byte) error { got.Add(1); return nil }, path, udsipc.WithSocketMode(0o666),
		udsipc.WithMaxReadMemory(1<<20), udsipc.WithMessageTimeout(100*time.Millisecond))
	_, says := asNobody(t, folder, "staller", "SOCKET="+path)
	says.Scan()
	until(t, "most wait for memory", func() bool { return r.Metrics().ReadMemoryWaits >= stallers/2 })
	before := r.Metrics().TooSlow
	go mustDial(t, path).Write(announced(1<<20, 1<<20))
	until(t, "the message is handled", func() bool { return got.Load() == 1 })
	if ended := r.Metrics().TooSlow - before; ended > stallers/2 {
		t.Errorf("%d connections of another user came before it", ended)
	}
}
