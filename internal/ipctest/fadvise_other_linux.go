// SPDX-License-Identifier: Apache-2.0

//go:build 386 || arm || mips || mipsle

package ipctest

import (
	"errors"
	"os"
)

// fadvise has an offset of 64 bits, which each of these processors passes in another way.
func fadvise(*os.File, uintptr) error { return errors.ErrUnsupported }
