// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package socket

// This file is dir_linux.go with what all systems have: the way to the directory is checked by its path
// and then opened, and what lies in it is found by its name again for each step. So here nobody but this
// process's user and root may be able to change the directory, which is what is checked.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// A directory is an open directory that no stranger can change.
type directory struct {
	handle *os.Root
	path   string
}

// An entry is something in a directory, as it was found.
type entry struct {
	directory *directory
	name      string
	info      fs.FileInfo
}

// openDirectory opens the directory of a socket. Every directory and symbolic link on the way must be trusted.
// If create is set, it makes the directories that are missing.
func openDirectory(path string, create bool) (*directory, error) {
	checked, err := checkPath(path)
	if create && errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(path, directoryMode); err != nil {
			return nil, fmt.Errorf("making the socket's directory: %w", err)
		}
		checked, err = checkPath(path)
	}
	if err != nil {
		return nil, err
	}
	dir, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	opened, err := dir.Stat(".")
	if err == nil && !os.SameFile(opened, checked) {
		err = fmt.Errorf("%w: somebody replaced the directory %s at this very moment", errdefs.ErrInvalidSocketPath, path)
	}
	if err != nil {
		return nil, errdefs.First(err, dir.Close())
	}
	return &directory{handle: dir, path: path}, nil
}

func (f *directory) close() { _ = f.handle.Close() }

// find returns what has that name, without following it.
func (f *directory) find(name string) (*entry, error) {
	info, err := f.handle.Lstat(name)
	if err != nil {
		return nil, err
	}
	return &entry{directory: f, name: name, info: info}, nil
}

// look returns what is known of that name.
func (f *directory) look(name string) (fs.FileInfo, error) { return f.handle.Lstat(name) }

// create opens a regular file, or makes it for its owner alone.
func (f *directory) create(name string) (*os.File, error) {
	return f.handle.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
}

// remove takes a name away.
func (f *directory) remove(name string) error { return f.handle.Remove(name) }

func (e *entry) close() {}

// chown gives the file away.
func (e *entry) chown(uid, gid int) error { return e.directory.handle.Lchown(e.name, uid, gid) }

// chmod sets the file's mode. It follows symbolic links, though not out of the directory; who could put one
// there has been refused.
func (e *entry) chmod(mode fs.FileMode) error { return e.directory.handle.Chmod(e.name, mode) }

// tryConnect connects to the socket, and says how that went.
func (e *entry) tryConnect(string) error { return tryConnect(filepath.Join(e.directory.path, e.name)) }
