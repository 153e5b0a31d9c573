// SPDX-License-Identifier: Apache-2.0

//go:build darwin || freebsd

package terminal

import "syscall"

const (
	getTermios = syscall.TIOCGETA
	setTermios = syscall.TIOCSETA
)
