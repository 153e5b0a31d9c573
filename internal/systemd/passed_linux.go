// SPDX-License-Identifier: Apache-2.0

package systemd

// This file looks at a passed descriptor before anything is done with it: it is somebody else's if it
// is not a stream socket that listens or is connected.

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// acceptedName is what systemd calls the connection of a service with Accept=yes (systemd.socket(5)).
const acceptedName = "connection"

func closeOnExec(fd int) { syscall.CloseOnExec(fd) }

// passedListener returns a listener on a duplicate of a listening socket, which stays open, or one that gives
// out a connected one, which is given away.
func passedListener(passed *Passed) (net.Listener, error) {
	if err := checkStream(passed.fd); err != nil {
		return nil, err
	}
	listening, err := syscall.GetsockoptInt(passed.fd, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
	if err != nil {
		return nil, os.NewSyscallError("getsockopt", err)
	}
	if listening != 0 {
		return duplicateListener(passed.fd)
	}
	if _, err := syscall.Getpeername(passed.fd); err != nil && passed.name != acceptedName { // That one may have ended.
		return nil, fmt.Errorf("is a stream socket that neither listens nor is connected; use " +
			"ListenStream=, and leave listening to systemd")
	}
	conn, err := takeConn(passed)
	if err != nil {
		return nil, err
	}
	return &passedConnection{conn: conn}, nil
}

// duplicateListener returns a listener on a duplicate of fd.
func duplicateListener(fd int) (net.Listener, error) {
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

// takeConn turns a passed descriptor into a connection, which closes it.
func takeConn(passed *Passed) (net.Conn, error) {
	file := passed.takeFile()
	defer file.Close()
	return net.FileConn(file)
}

// checkStream says what is wrong with fd if it is no stream socket of a family that is known here.
func checkStream(fd int) error {
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("is not open: %w", os.NewSyscallError("fstat", err))
	}
	if stat.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
		return fmt.Errorf("is %s; want a stream socket (ListenStream=)", fileTypes[stat.Mode&syscall.S_IFMT])
	}
	kind, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TYPE)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if kind != syscall.SOCK_STREAM {
		return fmt.Errorf("is %s; want a stream socket (ListenStream=)", nameOf(socketTypes, kind, "socket of type"))
	}
	family, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_DOMAIN)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	switch family {
	case syscall.AF_UNIX, syscall.AF_INET, syscall.AF_INET6:
		return nil
	}
	return fmt.Errorf("is %s; want one of AF_UNIX, AF_INET or AF_INET6",
		nameOf(nil, family, "stream socket of the address family"))
}

// fileTypes are what a descriptor may be instead of a socket (inode(7)).
var fileTypes = map[uint32]string{
	0:               "of no type, such as a descriptor of epoll", // What anonymous inodes have.
	syscall.S_IFREG: "a regular file",
	syscall.S_IFDIR: "a directory",
	syscall.S_IFCHR: "a character device",
	syscall.S_IFBLK: "a block device",
	syscall.S_IFIFO: "a pipe",
	syscall.S_IFLNK: "a symbolic link",
}

// socketTypes are what a socket may be instead of a stream (socket(2)).
var socketTypes = map[int]string{
	syscall.SOCK_DGRAM:     "a datagram socket",
	syscall.SOCK_SEQPACKET: "a socket of sequenced packets",
	syscall.SOCK_RAW:       "a raw socket",
}

// nameOf returns the name of a number, or its kind and the number.
func nameOf(names map[int]string, number int, kind string) string {
	if name := names[number]; name != "" {
		return name
	}
	return fmt.Sprintf("a %s %d", kind, number)
}
