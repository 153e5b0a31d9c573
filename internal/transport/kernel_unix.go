// SPDX-License-Identifier: Apache-2.0

//go:build unix

package transport

// This file is the system calls of each direction that do not wait.

import "syscall"

// canTryRead is true where a socket's descriptor can be read without waiting.
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

// peekDescriptor is readDescriptor, but leaves the bytes where they are.
func peekDescriptor(fd uintptr, b []byte) (n int, err error) {
	for {
		n, _, err = syscall.Recvfrom(int(fd), b, syscall.MSG_PEEK)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// writeDescriptor writes what there is room for; EAGAIN if there is none.
func writeDescriptor(fd uintptr, b []byte) (n int, err error) {
	for {
		n, err = syscall.Write(int(fd), b)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}
