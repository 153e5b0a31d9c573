// SPDX-License-Identifier: Apache-2.0

//go:build unix && !linux

package socket

// This file checks the path of a directory by name.

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// checkPath rejects a directory if an untrusted user can replace a part of its path.
func checkPath(dir string, also []int) (fs.FileInfo, error) {
	dir, err := fromRoot(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.Lstat("/")
	if err != nil {
		return nil, err
	}
	trust := append(newTrustedUIDs(root), also...)
	if err := trust.checkDirectory("/", root); err != nil {
		return nil, err
	}
	rest := strings.Split(dir, "/")
	at, found, links := "/", root, 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		next := filepath.Join(at, name) // Also for "..": at contains no symbolic link.
		info, err := os.Lstat(next)
		if err != nil {
			return nil, err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			if err := trust.checkDirectory(next, info); err != nil {
				return nil, err
			}
			at, found = next, info
			continue
		}
		if links++; links > maxSymlinks {
			return nil, &fs.PathError{Op: "open", Path: next, Err: syscall.ELOOP}
		}
		if err := trust.checkLink(next, info); err != nil {
			return nil, err
		}
		target, err := os.Readlink(next)
		if err != nil {
			return nil, err
		}
		if filepath.IsAbs(target) {
			at, found = "/", root
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return found, nil
}
