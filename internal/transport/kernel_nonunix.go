// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package transport

// This file is kernel_unix.go where a descriptor cannot be read without waiting: every connection is
// read and written through its own methods.

import "syscall"

const canTryRead = false

func readDescriptor(uintptr, []byte) (int, error) { return 0, syscall.EINVAL }

func peekDescriptor(uintptr, []byte) (int, error) { return 0, syscall.EINVAL }

func writeDescriptor(uintptr, []byte) (int, error) { return 0, syscall.EINVAL }
