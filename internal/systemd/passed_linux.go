// SPDX-License-Identifier: Apache-2.0

package systemd

// This file checks a passed descriptor before it is used. Only a stream socket that listens or is
// connected is for a Reader.

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// acceptedName is the name that systemd gives to the connection of a service with Accept=yes
// (systemd.socket(5)).
const acceptedName = "connection"

func closeOnExec(fd int) { syscall.CloseOnExec(fd) }

// passedListener returns a listener for a passed socket. A listening socket is duplicated and stays
// open. For a connected socket, the listener returns it as its only connection and owns it.
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
	// An accepted connection may have ended already.
	if _, err := syscall.Getpeername(passed.fd); err != nil && passed.name != acceptedName {
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
	syscall.ForkLock.RLock() // A process that is forked now must not inherit the duplicate.
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
	return net.FileListener(file) // FileListener duplicates it again, non-blocking and close-on-exec.
}

// takeConn returns a connection for a passed descriptor and closes the descriptor.
func takeConn(passed *Passed) (net.Conn, error) {
	file := passed.takeFile()
	defer file.Close()
	return net.FileConn(file)
}

// checkStream returns an error unless fd is a stream socket of a known family.
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

// fileTypes names the types of a descriptor that is no socket (inode(7)).
var fileTypes = map[uint32]string{
	0:               "of no type, such as a descriptor of epoll", // Anonymous inodes have type 0.
	syscall.S_IFREG: "a regular file",
	syscall.S_IFDIR: "a directory",
	syscall.S_IFCHR: "a character device",
	syscall.S_IFBLK: "a block device",
	syscall.S_IFIFO: "a pipe",
	syscall.S_IFLNK: "a symbolic link",
}

// socketTypes names the types of a socket that is no stream socket (socket(2)).
var socketTypes = map[int]string{
	syscall.SOCK_DGRAM:     "a datagram socket",
	syscall.SOCK_SEQPACKET: "a socket of sequenced packets",
	syscall.SOCK_RAW:       "a raw socket",
}

// nameOf returns the name of a number, or kind and the number if it has none.
func nameOf(names map[int]string, number int, kind string) string {
	if name := names[number]; name != "" {
		return name
	}
	return fmt.Sprintf("a %s %d", kind, number)
}
