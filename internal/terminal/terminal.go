// SPDX-License-Identifier: Apache-2.0

// Package terminal asks a terminal for its size, and for keys as they are pressed. Where that is not known, the error
// matches errors.ErrUnsupported.
package terminal

// This file is what all systems have in common.

import (
	"fmt"
	"os"
	"sync"
)

// Size returns the number of columns and rows.
func Size(tty *os.File) (columns, rows int, err error) {
	err = control(tty, func(fd uintptr) error {
		columns, rows, err = size(fd)
		return err
	})
	if err == nil && (columns <= 0 || rows <= 0) {
		err = fmt.Errorf("the terminal does not know its size")
	}
	return columns, rows, err
}

// ReadKeys lets a read return each key at once, and shows none. Keys that make signals go on to do so. restore sets
// what was before; it may be called again.
func ReadKeys(tty *os.File) (restore func(), err error) {
	var before state
	err = control(tty, func(fd uintptr) error {
		before, err = setKeys(fd)
		return err
	})
	if err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() {
		_ = control(tty, func(fd uintptr) error { return set(fd, before) }) // There is nobody to tell.
	}), nil
}

// control calls do with the descriptor, which stays as it is.
func control(tty *os.File, do func(fd uintptr) error) error {
	raw, err := tty.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = do(fd) }); err != nil {
		return err
	}
	return failed
}
