// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin || freebsd

package terminal

// This file makes the calls of ioctl(2).

import (
	"syscall"
	"unsafe"
)

type state = syscall.Termios

// size asks for the size (TIOCGWINSZ, ioctl_tty(2)).
func size(fd uintptr) (columns, rows int, err error) {
	var window struct{ rows, columns, width, height uint16 }
	err = ioctl(fd, syscall.TIOCGWINSZ, unsafe.Pointer(&window))
	return int(window.columns), int(window.rows), err
}

// setKeys turns lines and echo off (termios(3)), and returns the state before.
func setKeys(fd uintptr) (before state, err error) {
	if err := ioctl(fd, getTermios, unsafe.Pointer(&before)); err != nil {
		return before, err
	}
	keys := before
	keys.Lflag &^= syscall.ICANON | syscall.ECHO
	keys.Cc[syscall.VMIN], keys.Cc[syscall.VTIME] = 1, 0
	return before, set(fd, keys)
}

func set(fd uintptr, to state) error { return ioctl(fd, setTermios, unsafe.Pointer(&to)) }

func ioctl(fd, request uintptr, value unsafe.Pointer) error {
	for {
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(value))
		if errno == 0 {
			return nil
		}
		if errno != syscall.EINTR {
			return errno
		}
	}
}
