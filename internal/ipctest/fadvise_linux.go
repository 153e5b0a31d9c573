// SPDX-License-Identifier: Apache-2.0

//go:build !386 && !arm && !mips && !mipsle

package ipctest

import (
	"os"
	"syscall"
)

// fadvise is posix_fadvise(2) for a whole file.
func fadvise(file *os.File, advice uintptr) error {
	if _, _, errno := syscall.Syscall6(syscall.SYS_FADVISE64, file.Fd(), 0, 0, advice, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
