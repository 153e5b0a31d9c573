// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package systemd

// This file replaces store_linux.go on systems without systemd: nothing can be stored.

import (
	"errors"
	"os"
	"syscall"
	"time"
)

var errTooManyReferences = errors.New("udsipc: too many descriptors are under way")

func newMemfd(string, []byte) (*os.File, error) { return nil, errors.ErrUnsupported }

func unixRights(uintptr) []byte { return nil }

func inodeOf(syscall.Conn) (uint64, error) { return 0, errors.ErrUnsupported }

func openStored(string, *Passed) (Stored, error) {
	return Stored{}, errors.ErrUnsupported
}

func monotonic() (time.Duration, bool) { return 0, false }
