// SPDX-License-Identifier: Apache-2.0

package socket

// This file has functions of Linux for the connections in a listener's backlog.

import (
	"errors"
	"math"
	"net"
	"os"
	"syscall"
	"unsafe"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// HalfCloseListener makes a Unix listener refuse further connections. Those in its backlog can
// still be accepted (unix_stream_connect, unix_accept), and a blocked Accept is not interrupted.
func HalfCloseListener(listener *net.UnixListener) bool {
	raw, err := listener.SyscallConn()
	if err != nil {
		return false
	}
	var shutErr error
	err = raw.Control(func(fd uintptr) { shutErr = syscall.Shutdown(int(fd), syscall.SHUT_RD) })
	return err == nil && shutErr == nil
}

// firstPacketFilter drops the first packet of a TCP connection, SYN without ACK, and accepts all
// others. The codes are those of linux/bpf_common.h. Byte 13 of a TCP header has its flags (RFC
// 9293, 3.1).
var firstPacketFilter = [...]syscall.SockFilter{
	{Code: 0x30, K: 13},             // Load the flags,
	{Code: 0x54, K: 0x12},           // keep SYN and ACK.
	{Code: 0x15, K: 0x02, Jf: 1},    // Only SYN?
	{Code: 0x06, K: 0},              // Then drop the packet,
	{Code: 0x06, K: math.MaxUint32}, // else accept it.
}

// FilterNewConnections makes a TCP listener ignore new connections. Connections in its backlog, and
// those whose handshake has begun, can still be accepted. Other peers try again after a second, and
// are refused once the listener is closed. It sets a socket filter (socket(7), SO_ATTACH_FILTER). A
// multipath listener, the default of net.Listen, does not accept one.
func FilterNewConnections(listener *net.TCPListener) bool {
	raw, err := listener.SyscallConn()
	if err != nil {
		return false
	}
	program := syscall.SockFprog{Len: uint16(len(firstPacketFilter)), Filter: &firstPacketFilter[0]}
	value := string(unsafe.Slice((*byte)(unsafe.Pointer(&program)), unsafe.Sizeof(program)))
	var attachErr error
	err = raw.Control(func(fd uintptr) {
		attachErr = syscall.SetsockoptString(int(fd), syscall.SOL_SOCKET, syscall.SO_ATTACH_FILTER, value)
	})
	return err == nil && attachErr == nil
}

// AcceptNow accepts a connection from a listener's backlog without waiting. The error is EAGAIN if
// there is none. If no descriptor is left for an accepted connection, AcceptNow tries again while
// again returns true.
func AcceptNow(listener net.Listener, again func(error) bool) (net.Conn, error) {
	socket, ok := listener.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	accepted, acceptErr := -1, error(nil)
	err = raw.Control(func(fd uintptr) {
		for acceptErr = syscall.EINTR; acceptErr == syscall.EINTR || acceptErr == syscall.ECONNABORTED; {
			accepted, _, acceptErr = syscall.Accept4(int(fd), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		}
	})
	if err = errdefs.First(err, acceptErr); err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(accepted), "accepted")
	defer file.Close() // FileConn duplicates the descriptor.
	conn, err := net.FileConn(file)
	for err != nil && again(err) {
		conn, err = net.FileConn(file)
	}
	if tcp, ok := conn.(*net.TCPConn); ok && err == nil {
		err = tcp.SetKeepAliveConfig(tcpKeepAlive)
	}
	return conn, err
}
