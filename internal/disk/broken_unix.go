// SPDX-License-Identifier: Apache-2.0

//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package disk

import (
	"errors"
	"syscall"
)

// isBroken reports whether the file system cannot read what it has of a file.
func isBroken(err error) bool { return errors.Is(err, syscall.EIO) }
