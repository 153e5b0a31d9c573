// SPDX-License-Identifier: Apache-2.0

package terminal

import "syscall"

const (
	getTermios = syscall.TCGETS
	setTermios = syscall.TCSETS
)
