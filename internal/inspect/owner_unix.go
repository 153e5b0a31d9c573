// SPDX-License-Identifier: Apache-2.0

//go:build unix

package inspect

import (
	"os"
	"syscall"
)

// ownerOf returns the owner of a file, or -1.
func ownerOf(info os.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1
}

// owners returns the owner and the group of a file as text.
func owners(info os.FileInfo) string {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "somebody"
	}
	return User(int(stat.Uid)) + ", " + group(int(stat.Gid))
}
