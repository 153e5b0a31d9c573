// SPDX-License-Identifier: Apache-2.0

package systemd

// This file has the system calls of the descriptor store.

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// memfdCreate has the number of memfd_create(2) for each processor; package syscall does not name
// it on all.
var memfdCreate = map[string]uintptr{
	"386": 356, "amd64": 319, "arm": 385, "arm64": 279, "loong64": 279, "mips": 4354, "mipsle": 4354,
	"mips64": 5314, "mips64le": 5314, "ppc64": 360, "ppc64le": 360, "riscv64": 279, "s390x": 350,
}

// newMemfd returns a file in memory that holds data.
func newMemfd(name string, data []byte) (*os.File, error) {
	const closeOnExec = 1 // MFD_CLOEXEC
	text, err := syscall.BytePtrFromString(name)
	if err != nil {
		return nil, err
	}
	fd, _, errno := syscall.Syscall(memfdCreate[runtime.GOARCH], uintptr(unsafe.Pointer(text)), closeOnExec, 0)
	if errno != 0 {
		return nil, os.NewSyscallError("memfd_create", errno)
	}
	file := os.NewFile(fd, name)
	if _, err := file.Write(data); err != nil {
		return nil, errdefs.First(err, file.Close())
	}
	return file, nil
}

// unixRights returns the control message that passes a descriptor.
func unixRights(fd uintptr) []byte { return syscall.UnixRights(int(fd)) }

// sendDatagram sends a datagram, and does not wait.
func sendDatagram(conn *net.UnixConn, to *net.UnixAddr, message, rights []byte) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	err = raw.Write(func(fd uintptr) (done bool) {
		_, sendErr = syscall.SendmsgN(int(fd), message, rights, &syscall.SockaddrUnix{Name: to.Name}, syscall.MSG_DONTWAIT)
		return true
	})
	return errdefs.First(os.NewSyscallError("sendmsg", sendErr), err)
}

// isBusy reports whether a later datagram may have room: the receiver's queue is full, or too many descriptors are
// in flight (unix(7)).
func isBusy(err error) bool {
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ETOOMANYREFS) || errors.Is(err, syscall.EINTR)
}

// inodeOf returns the inode number of the socket or file of a descriptor.
func inodeOf(conn syscall.Conn) (inode uint64, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var stat syscall.Stat_t
	var statErr error
	err = raw.Control(func(fd uintptr) { statErr = syscall.Fstat(int(fd), &stat) })
	return stat.Ino, errdefs.First(err, statErr)
}

// openStored takes a passed descriptor if it is of this kind.
func openStored(kind string, passed *Passed) (Stored, error) {
	var stat syscall.Stat_t
	if err := syscall.Fstat(passed.fd, &stat); err != nil {
		return Stored{}, fmt.Errorf("is not open: %w", os.NewSyscallError("fstat", err))
	}
	switch kind {
	case StoreProbe:
		return Stored{Kind: kind, File: passed.takeFile()}, nil
	case StoreHandOverState:
		if stat.Mode&syscall.S_IFMT != syscall.S_IFREG {
			return Stored{}, fmt.Errorf("is %s; want a regular file", fileTypes[stat.Mode&syscall.S_IFMT])
		}
	default:
		if err := checkStream(passed.fd); err != nil {
			return Stored{}, err
		}
	}
	return Stored{Kind: kind, Inode: stat.Ino, File: passed.takeFile()}, nil
}

// monotonic returns the time of CLOCK_MONOTONIC (clock_gettime(2)).
func monotonic() (time.Duration, bool) {
	const clockMonotonic = 1
	var now syscall.Timespec
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&now)), 0)
	return time.Duration(now.Nano()), errno == 0
}
