// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"os"
	"syscall"
)

// syncData is fdatasync(2): the content, and the size if it changed. A signal repeats it, an error
// does not: the kernel reports each once.
func syncData(f *os.File) error {
	return control(f, func(fd int) error {
		for {
			if err := syscall.Fdatasync(fd); err != syscall.EINTR {
				return os.NewSyscallError("fdatasync", err)
			}
		}
	})
}
