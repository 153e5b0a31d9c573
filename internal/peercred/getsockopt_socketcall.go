// SPDX-License-Identifier: Apache-2.0

//go:build linux && (386 || s390x)

package peercred

import (
	"syscall"
	"unsafe"
)

// getsockopt is getsockopt(2). On these two platforms it is a call of socketcall(2).
func getsockopt(fd uintptr, level, option int, value unsafe.Pointer, size *uint32) syscall.Errno {
	const sysGetsockopt = 15 // linux/net.h
	arguments := [5]uintptr{fd, uintptr(level), uintptr(option), uintptr(value), uintptr(unsafe.Pointer(size))}
	_, _, errno := syscall.Syscall(syscall.SYS_SOCKETCALL, sysGetsockopt, uintptr(unsafe.Pointer(&arguments)), 0)
	return errno
}
