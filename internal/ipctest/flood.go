// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// A flood is a set of connections that send one message repeatedly, as fast as the reader reads.
type flood struct {
	conns []net.Conn
	Sent  atomic.Int64 // Messages that were written whole.
	wg    sync.WaitGroup

	ending atomic.Bool
	Failed atomic.Int64 // Connections that ended before End.
}

// StartFlood starts connections that send messages of size bytes.
func StartFlood(tb testing.TB, path string, connections, size int) *flood {
	tb.Helper()
	f := new(flood)
	frame := Frames(string(make([]byte, size)))
	for range connections {
		conn := MustDial(tb, path)
		f.conns = append(f.conns, conn)
		f.wg.Go(func() { // Ends with the connection.
			for {
				if _, err := conn.Write(frame); err != nil {
					if !f.ending.Load() {
						f.Failed.Add(1)
					}
					return
				}
				f.Sent.Add(1)
			}
		})
	}
	tb.Cleanup(f.End)
	return f
}

// End closes the connections.
func (f *flood) End() {
	f.ending.Store(true)
	for _, conn := range f.conns {
		conn.Close()
	}
	f.wg.Wait()
}
