// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package transport

// This file replaces kernel_unix.go where a descriptor cannot be read without waiting. Every
// connection is read and written through its methods.

import "syscall"

const canTryRead = false

func readDescriptor(uintptr, []byte) (int, error) { return 0, syscall.EINVAL }

func peekDescriptor(uintptr, []byte) (int, error) { return 0, syscall.EINVAL }

func writeDescriptor(uintptr, []byte) (int, error) { return 0, syscall.EINVAL }
