// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package socket

import (
	"io/fs"
	"os"
)

// privateModes tells that directories have an owner and a mode.
const privateModes = false

// checkPath is for systems without directory modes.
func checkPath(dir string, _ []int) (fs.FileInfo, error) { return os.Stat(dir) }

// ownerOf returns the current user: the owner is not available.
func ownerOf(fs.FileInfo) int { return os.Geteuid() }
