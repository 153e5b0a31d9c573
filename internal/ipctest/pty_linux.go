// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"unsafe"
)

// OpenTerminal returns both sides of a pseudoterminal (pty(7)): that of the user, and that of the program.
func OpenTerminal(tb testing.TB, columns, rows uint16) (user, program *os.File) {
	tb.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { user.Close() })
	unlock, number := int32(0), uint32(0)
	ioctl(tb, user, syscall.TIOCSPTLCK, unsafe.Pointer(&unlock))
	ioctl(tb, user, syscall.TIOCGPTN, unsafe.Pointer(&number))
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { program.Close() })
	ResizeTerminal(tb, user, columns, rows)
	return user, program
}

// ResizeTerminal sets the size. The foreground processes of the terminal get SIGWINCH.
func ResizeTerminal(tb testing.TB, user *os.File, columns, rows uint16) {
	tb.Helper()
	window := struct{ rows, columns, width, height uint16 }{rows, columns, 0, 0}
	ioctl(tb, user, syscall.TIOCSWINSZ, unsafe.Pointer(&window))
}

// TerminalModes returns the modes of a terminal.
func TerminalModes(tb testing.TB, tty *os.File) (modes syscall.Termios) {
	tb.Helper()
	ioctl(tb, tty, syscall.TCGETS, unsafe.Pointer(&modes))
	return modes
}

func ioctl(tb testing.TB, tty *os.File, request uintptr, value unsafe.Pointer) {
	tb.Helper()
	raw, err := tty.SyscallConn()
	if err != nil {
		tb.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(value)); errno != 0 {
			tb.Errorf("ioctl %#x: %v", request, errno)
		}
	})
	if err != nil {
		tb.Error(err)
	}
}
