// SPDX-License-Identifier: Apache-2.0

//go:build unix

package udsipc

// This file is the one system call of the receiving direction.

import "syscall"

// canTryRead: a socket's descriptor can be read without waiting.
const canTryRead = true

// readDescriptor reads what is there; EAGAIN if nothing is, 0 at the end of the stream.
func readDescriptor(fd uintptr, b []byte) (n int, err error) {
	for {
		n, err = syscall.Read(int(fd), b)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}
