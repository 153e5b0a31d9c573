// SPDX-License-Identifier: Apache-2.0

//go:build unix

package transport

// This file has the system calls that do not wait, for both directions.

import "syscall"

// canTryRead is true where a socket's descriptor can be read without waiting.
const canTryRead = true

// readDescriptor reads available bytes. It returns EAGAIN if there are none, and 0 at the end of
// the stream.
func readDescriptor(fd uintptr, b []byte) (n int, err error) {
	for {
		n, err = syscall.Read(int(fd), b)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// peekDescriptor is readDescriptor, but the bytes stay in the socket.
func peekDescriptor(fd uintptr, b []byte) (n int, err error) {
	for {
		n, _, err = syscall.Recvfrom(int(fd), b, syscall.MSG_PEEK)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// writeDescriptor writes as much as there is space for. It returns EAGAIN if there is none.
func writeDescriptor(fd uintptr, b []byte) (n int, err error) {
	for {
		n, err = syscall.Write(int(fd), b)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}
