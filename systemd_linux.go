// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file looks at a passed descriptor before anything is done with it: it is somebody else's if it
// is not a listening stream socket.

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

func closeOnExec(fd int) { syscall.CloseOnExec(fd) }

// passedListener returns a listener on a duplicate of fd, which stays open.
func passedListener(fd int) (net.Listener, error) {
	if err := checkListening(fd); err != nil {
		return nil, err
	}
	syscall.ForkLock.RLock() // A child that is started right now must not inherit the duplicate.
	duplicate, err := syscall.Dup(fd)
	if err == nil {
		syscall.CloseOnExec(duplicate)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	file := os.NewFile(uintptr(duplicate), fmt.Sprintf("passed socket %d", fd))
	defer file.Close()
	return net.FileListener(file) // Duplicates it once more, without blocking and close-on-exec.
}

// checkListening says what is wrong with fd.
func checkListening(fd int) error {
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("is not open: %w", os.NewSyscallError("fstat", err))
	}
	if stat.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
		return fmt.Errorf("is not a socket but a file of type %#o; want a listening stream socket", stat.Mode&syscall.S_IFMT)
	}
	kind, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TYPE)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if kind != syscall.SOCK_STREAM {
		return fmt.Errorf("is a socket of type %d (socket(2)), not a stream socket; use ListenStream=", kind)
	}
	listening, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if listening == 0 {
		return fmt.Errorf("is a stream socket that does not listen; use Accept=no")
	}
	return nil
}
