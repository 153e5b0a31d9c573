// SPDX-License-Identifier: Apache-2.0

//go:build unix

package socket

// This file decides who may own what lies on the way to a socket.

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// A trustedUIDs is the users who may control the way to a socket: root, this process's user, and the owner of
// the root directory. The last is root as well, but in a user namespace root may have no number of its own
// (user_namespaces(7)), and there it is the only one who owns what root owns.
type trustedUIDs []int

// newTrustedUIDs takes what is known of the root directory.
func newTrustedUIDs(root fs.FileInfo) trustedUIDs { return trustedUIDs{0, os.Geteuid(), ownerOf(root)} }

// fromRoot is filepath.Abs without its Clean, for which "link/.." is where it began.
func fromRoot(path string) (string, error) {
	if filepath.IsAbs(path) {
		return path, nil
	}
	here, err := os.Getwd()
	return here + "/" + path, err
}

// ownerOf returns the user who owns a file, or -1.
func ownerOf(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1
}

// checkDirectory refuses a directory in which another user could replace what lies on the way: its owner, or,
// unless the sticky bit is set, its group and everybody else, if they may write to it (inode(7)). The
// group's bit stands for the entries of an access control list too (acl(5)).
func (t trustedUIDs) checkDirectory(path string, info fs.FileInfo) error {
	const others = 0o022
	mode := info.Mode()
	switch {
	case !mode.IsDir():
		return fmt.Errorf("%w: %s is %s: %w", errdefs.ErrInvalidSocketPath, path, describe(info), syscall.ENOTDIR)
	case !slices.Contains(t, ownerOf(info)):
		return fmt.Errorf("%w: the directory %s belongs to uid %d, who may replace what lies in it; "+
			"give it to root or to uid %d (chown), or run as its owner",
			errdefs.ErrInvalidSocketPath, path, ownerOf(info), os.Geteuid())
	case mode&fs.ModeSticky != 0 || mode.Perm()&others == 0:
		return nil
	case mode.Perm()&0o002 != 0:
		return fmt.Errorf("%w: everybody may replace what lies in the directory %s (mode %v); "+
			"take that from them (chmod go-w) or set the sticky bit (chmod +t)", errdefs.ErrInvalidSocketPath, path, mode)
	}
	return fmt.Errorf("%w: the group of the directory %s may replace what lies in it (mode %v); "+
		"take that from it (chmod g-w) or set the sticky bit (chmod +t)", errdefs.ErrInvalidSocketPath, path, mode)
}

// checkLink refuses a symbolic link whose owner may change where it leads.
func (t trustedUIDs) checkLink(path string, info fs.FileInfo) error {
	if !slices.Contains(t, ownerOf(info)) {
		return fmt.Errorf("%w: the symbolic link %s belongs to uid %d, who may change where it leads; use a path without it",
			errdefs.ErrInvalidSocketPath, path, ownerOf(info))
	}
	return nil
}
