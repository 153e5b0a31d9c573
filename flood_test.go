// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// A flood is connections that send one message again and again, as fast as they are read.
type flood struct {
	conns []net.Conn
	sent  atomic.Int64 // Messages that the kernel has taken whole.
	wg    sync.WaitGroup

	ending atomic.Bool
	failed atomic.Int64 // Connections that ended before.
}

// startFlood has so many connections send messages of size bytes.
func startFlood(tb testing.TB, path string, connections, size int) *flood {
	tb.Helper()
	f := new(flood)
	frame := frames(string(make([]byte, size)))
	for range connections {
		conn := mustDial(tb, path)
		f.conns = append(f.conns, conn)
		f.wg.Go(func() { // Ends with the connection.
			for {
				if _, err := conn.Write(frame); err != nil {
					if !f.ending.Load() {
						f.failed.Add(1)
					}
					return
				}
				f.sent.Add(1)
			}
		})
	}
	tb.Cleanup(f.end)
	return f
}

// end closes the connections.
func (f *flood) end() {
	f.ending.Store(true)
	for _, conn := range f.conns {
		conn.Close()
	}
	f.wg.Wait()
}

// memoryAllocated is how many bytes this process has ever allocated.
func memoryAllocated() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.TotalAlloc
}
