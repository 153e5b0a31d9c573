// SPDX-License-Identifier: Apache-2.0

package transport

// This file has what only Linux reports or can do about a connection.

import (
	"net"
	"syscall"
	"unsafe"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// endOfFileMeansRead is true here: a Unix socket that is closed while bytes lie unread in it gives its peer
// ECONNRESET, and end of file only otherwise (net/unix/af_unix.c, unix_release_sock).
const endOfFileMeansRead = true

// canTellUnread is true where unread and hungUp know.
const canTellUnread = true

// unread returns the number of bytes written to a Unix socket that the peer has not read. The
// kernel counts its overhead too: the number is too high, but 0 exactly when everything was read.
// On TCP it is the number of bytes that the peer's kernel has not acknowledged (SIOCOUTQ: tcp(7),
// unix(7)).
func unread(raw syscall.RawConn) (bytes int, ok bool) {
	var value int32
	var errno syscall.Errno
	err := raw.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&value)))
	})
	return int(value), err == nil && errno == 0
}

// mayBlock reports whether system calls on a socket wait: a program has made it blocking, as with the
// descriptor of a File of it.
func mayBlock(raw syscall.RawConn) bool {
	var flags uintptr
	var errno syscall.Errno
	err := raw.Control(func(fd uintptr) {
		flags, _, errno = syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_GETFL, 0)
	})
	return err == nil && errno == 0 && flags&syscall.O_NONBLOCK == 0
}

// readableBytes returns the number of bytes that can be read from a socket (FIONREAD: tcp(7),
// unix(7)).
func readableBytes(raw syscall.RawConn) (bytes int) {
	var value int32
	_ = raw.Control(func(fd uintptr) {
		_, _, _ = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCINQ, uintptr(unsafe.Pointer(&value)))
	})
	return int(value)
}

// hungUp says whether the peer has closed its end (poll(2)). What it had not read then is thrown away
// after that, so an unread of 0 means that everything was read only if hungUp says no afterwards. It
// takes nothing: an error that the connection ended with is still there for the one who reads.
func hungUp(raw syscall.RawConn) bool {
	const pollErr, pollHup, pollRdHup = 0x8, 0x10, 0x2000
	poll := struct {
		fd              int32
		events, revents int16
	}{events: pollRdHup}
	var now syscall.Timespec
	var errno syscall.Errno
	err := raw.Control(func(fd uintptr) {
		poll.fd = int32(fd)
		_, _, errno = syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1,
			uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	})
	return err != nil || errno != 0 || poll.revents&(pollErr|pollHup|pollRdHup) != 0
}

// sendBufferSize returns SO_SNDBUF, the limit of unread bytes in a Unix socket.
func sendBufferSize(raw syscall.RawConn) (bytes int) {
	_ = raw.Control(func(fd uintptr) {
		bytes, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF)
	})
	return bytes
}

// pendingError returns and clears SO_ERROR.
func pendingError(raw syscall.RawConn) (pending error) {
	err := raw.Control(func(fd uintptr) {
		if code, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR); err == nil && code != 0 {
			pending = syscall.Errno(code)
		}
	})
	return errdefs.First(pending, err)
}

// CloseRead makes the kernel refuse the peer's writes. Bytes that it has accepted can still be
// read, and end of file follows them (unix_shutdown, unix_stream_sendmsg). Other systems drop these
// bytes (sorflush), and TCP refuses nothing.
func CloseRead(conn net.Conn) bool {
	unix, ok := conn.(*net.UnixConn)
	return ok && unix.CloseRead() == nil
}
