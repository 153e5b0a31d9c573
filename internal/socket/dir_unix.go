// SPDX-License-Identifier: Apache-2.0

//go:build unix

package socket

// This file decides which users may own the directories and links on the path of a socket.

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// privateModes tells that directories have an owner and a mode.
const privateModes = true

// A trustedUIDs has the users who may control the path of a socket: root, the user of this process,
// and the owner of the root directory. The last one is root too. In a user namespace, root may have
// no ID (user_namespaces(7)); there the owner of the root directory owns root's files.
type trustedUIDs []int

// newTrustedUIDs returns the trusted users, given the root directory.
func newTrustedUIDs(root fs.FileInfo) trustedUIDs { return trustedUIDs{0, os.Geteuid(), ownerOf(root)} }

// fromRoot is filepath.Abs without Clean: Clean would remove "link/..", although it may lead
// elsewhere.
func fromRoot(path string) (string, error) {
	if filepath.IsAbs(path) {
		return path, nil
	}
	here, err := os.Getwd()
	return here + "/" + path, err
}

// ownerOf returns the owner of a file, or -1.
func ownerOf(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1
}

// checkDirectory rejects a directory in which an untrusted user can replace entries. Its owner can.
// Unless the sticky bit is set, its group and all others can if they may write (inode(7)). The
// group bit also stands for the entries of an access control list (acl(5)).
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
			"take that from them (chmod go-w %s) or set the sticky bit (chmod +t)",
			errdefs.ErrInvalidSocketPath, path, mode, path)
	}
	return fmt.Errorf("%w: the group of the directory %s may replace what lies in it (mode %v); "+
		"take that from it (chmod g-w %s) or set the sticky bit (chmod +t)", errdefs.ErrInvalidSocketPath, path, mode, path)
}

// checkLink rejects a symbolic link with an untrusted owner, who may change its target.
func (t trustedUIDs) checkLink(path string, info fs.FileInfo) error {
	if !slices.Contains(t, ownerOf(info)) {
		return fmt.Errorf("%w: the symbolic link %s belongs to uid %d, who may change where it leads; use a path without it",
			errdefs.ErrInvalidSocketPath, path, ownerOf(info))
	}
	return nil
}
