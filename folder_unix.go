// SPDX-License-Identifier: Apache-2.0

//go:build unix

package udsipc

// This file looks at the way to a socket's folder: who may change it may put another socket there.

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxSymlinks is how many symbolic links may lie on the way, as in path_resolution(7).
const maxSymlinks = 40

// checkFolder refuses a folder if another user can replace what lies on the way to it: in a folder that
// everybody may write to, without the sticky bit, or by a symbolic link of theirs.
func checkFolder(folder string) error {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return err
	}
	rest := strings.Split(strings.TrimPrefix(folder, "/"), "/")
	at, links := "/", 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at) // No symbolic link is in at.
			continue
		}
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			if err := checkWritable(next, info); err != nil {
				return err
			}
			at = next
			continue
		}
		target, err := followLink(next, info)
		if links++; links > maxSymlinks {
			err = syscall.ELOOP
		}
		if err != nil {
			return err
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return nil
}

// checkWritable refuses a folder that everybody may write to, unless they may touch only what is theirs.
func checkWritable(folder string, info fs.FileInfo) error {
	if info.IsDir() && info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("%w: everybody may replace what lies in %s (mode %v); take that from them (chmod o-w) or set the sticky bit (chmod +t)",
			ErrInvalidSocketPath, folder, info.Mode())
	}
	return nil
}

// followLink returns where a symbolic link leads. It must belong to root or to this process's user.
func followLink(link string, info fs.FileInfo) (string, error) {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
		return "", fmt.Errorf("%w: the symbolic link %s belongs to uid %d, who may change where it leads; use a path without it",
			ErrInvalidSocketPath, link, stat.Uid)
	}
	return os.Readlink(link)
}
