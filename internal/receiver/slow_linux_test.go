// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// tcpUserTimeout is TCP_USER_TIMEOUT of linux/tcp.h.
const tcpUserTimeout = 18

// TestWriter_SlowReaderTCP_KeepsConnection: the kernel must not end a connection because a handler
// takes long. TCP_USER_TIMEOUT would: it counts a window that is closed, too (tcp(7)).
func TestWriter_SlowReaderTCP_KeepsConnection(t *testing.T) {
	for name, opts := range map[string][]udsipc.WriterOption{
		"plain": nil, "acknowledged": {udsipc.WithAcknowledgements()},
	} {
		t.Run(name, func(t *testing.T) {
			address := ipctest.TcpAddress(t)
			r := ipctest.StartReader(t, ipctest.Ignore, address)
			w := ipctest.StartWriter(t, address, opts...)
			if err := w.WaitConnected(t.Context()); err != nil {
				t.Fatal(err)
			}
			fd := socketTo(t, r.Addr().(*net.TCPAddr).Port)
			if timeout, err := syscall.GetsockoptInt(fd, syscall.IPPROTO_TCP, tcpUserTimeout); timeout != 0 || err != nil {
				t.Errorf("TCP_USER_TIMEOUT is %d ms, %v; want none", timeout, err)
			}
			if alive, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE); alive == 0 || err != nil {
				t.Errorf("SO_KEEPALIVE is %d, %v; a host that is gone would never be noticed", alive, err)
			}
		})
	}
}

// socketTo returns the descriptor of this process's connection to a TCP port of loopback.
func socketTo(tb testing.TB, port int) int {
	tb.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		tb.Fatal(err)
	}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			tb.Fatal(err)
		}
		peer, err := syscall.Getpeername(fd)
		if to, ok := peer.(*syscall.SockaddrInet4); err == nil && ok && to.Port == port {
			return fd
		}
	}
	tb.Fatalf("no connection to port %d", port)
	return -1
}
