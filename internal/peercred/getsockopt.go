// SPDX-License-Identifier: Apache-2.0

//go:build (linux && !386 && !s390x) || darwin || freebsd

package peercred

import (
	"syscall"
	"unsafe"
)

// getsockopt is getsockopt(2) for values that have no type in package syscall.
func getsockopt(fd uintptr, level, option int, value unsafe.Pointer, size *uint32) syscall.Errno {
	_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, uintptr(level), uintptr(option),
		uintptr(value), uintptr(unsafe.Pointer(size)), 0)
	return errno
}
