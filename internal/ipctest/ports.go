// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// The ports of TcpAddress are below those that systems assign to clients (ip_local_port_range), so
// that no connection gets one of them. They form blocks. A process that listens on the first port
// of a block owns the others. So a Writer that waits for its Reader to return never reaches the
// Reader of another process.
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

// TcpAddress returns an address on which no process listens. The test owns it until its end.
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

// portAt returns the port with this number among the ports of all blocks.
func portAt(number int) int {
	return ports.held[number/(blockSize-1)].Addr().(*net.TCPAddr).Port + 1 + number%(blockSize-1)
}

// isFree reports whether no other program listens at address.
func isFree(address string) bool {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// holdBlock reserves another block until the process ends.
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
