// SPDX-License-Identifier: Apache-2.0

//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package disk

// This file stands for a system without locks on directories.

import (
	"errors"
	"fmt"
	"runtime"
)

// Open returns errors.ErrUnsupported.
func Open(path string) (Disk, error) {
	return nil, fmt.Errorf("opening the spool %s on %s: %w", path, runtime.GOOS, errors.ErrUnsupported)
}

// Adopt returns errors.ErrUnsupported.
func Adopt(path string) (Disk, error) { return Open(path) }
