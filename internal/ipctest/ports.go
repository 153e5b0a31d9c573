// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// The ports of TcpAddress lie below those that systems give to clients (ip_local_port_range), so that no connection
// takes one meanwhile. They come in blocks. A process that listens on the first port of a block has the others to
// itself: a Writer that waits for its Reader to return never reaches the Reader of another process.
const (
	firstPort = 10000
	blockSize = 100
	blocks    = 200
)

// ports are the ports of this process.
var ports = struct {
	mu   sync.Mutex
	held []net.Listener // The first ports of its blocks.
	used map[int]bool
	next int // Counts all ports of all its blocks.
}{used: map[int]bool{}}

// TcpAddress returns an address on which nothing listens. Until the end of the test it belongs to it alone.
func TcpAddress(tb testing.TB) string {
	tb.Helper()
	ports.mu.Lock()
	defer ports.mu.Unlock()
	for tried := 0; ; tried++ {
		if all := len(ports.held) * (blockSize - 1); tried >= all {
			holdBlock(tb)
			ports.next = all
		}
		port := portAt(ports.next)
		if ports.next++; ports.next == len(ports.held)*(blockSize-1) {
			ports.next = 0
		}
		if address := fmt.Sprintf("127.0.0.1:%d", port); !ports.used[port] && isFree(address) {
			ports.used[port] = true
			tb.Cleanup(func() {
				ports.mu.Lock()
				defer ports.mu.Unlock()
				delete(ports.used, port)
			})
			return "tcp://" + address
		}
	}
}

// portAt returns the port of a number below that of all ports.
func portAt(number int) int {
	return ports.held[number/(blockSize-1)].Addr().(*net.TCPAddr).Port + 1 + number%(blockSize-1)
}

// isFree reports whether no other program listens there.
func isFree(address string) bool {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// holdBlock takes another block, until the process ends.
func holdBlock(tb testing.TB) {
	tb.Helper()
	for _, block := range rand.Perm(blocks) {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", firstPort+block*blockSize)); err == nil {
			ports.held = append(ports.held, l)
			return
		}
	}
	tb.Fatal("no block of ports is free")
}
