// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package socket

// This file replaces dir_linux.go on other systems. The path of the directory is checked by name,
// and the directory is then opened. Each later step finds a file by its name. This is safe because
// only this process's user and root can change the directory, which is what is checked.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// A directory is an open directory that no untrusted user can change.
type directory struct {
	handle *os.Root
	path   string
}

// An entry is a file in a directory, as it was found.
type entry struct {
	directory *directory
	name      string
	info      fs.FileInfo
}

// openDirectory opens the directory of a socket. Each directory and symbolic link on the path must
// be trusted; those of the users in also are. If create is true, it creates missing directories.
func openDirectory(path string, create bool, also ...int) (*directory, error) {
	checked, err := checkPath(path, also)
	if create && errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(path, directoryMode); err != nil {
			return nil, fmt.Errorf("making the socket's directory: %w", err)
		}
		checked, err = checkPath(path, also)
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
		err = fmt.Errorf("%w: the directory %s was replaced meanwhile", errdefs.ErrInvalidSocketPath, path)
	}
	if err != nil {
		return nil, errdefs.First(err, dir.Close())
	}
	return &directory{handle: dir, path: path}, nil
}

func (f *directory) close() { _ = f.handle.Close() }

// list opens the directory for reading its names.
func (f *directory) list() (*os.File, error) { return f.handle.Open(".") }

// find returns the entry with that name. It does not follow a symbolic link.
func (f *directory) find(name string) (*entry, error) {
	info, err := f.handle.Lstat(name)
	if err != nil {
		return nil, err
	}
	return &entry{directory: f, name: name, info: info}, nil
}

// look returns the file information for a name.
func (f *directory) look(name string) (fs.FileInfo, error) { return f.handle.Lstat(name) }

// create opens a regular file, or creates it with permissions for the owner only.
func (f *directory) create(name string) (*os.File, error) {
	return f.handle.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
}

// remove removes a name.
func (f *directory) remove(name string) error { return f.handle.Remove(name) }

func (e *entry) close() {}

// chown sets the owner and the group of the file.
func (e *entry) chown(uid, gid int) error { return e.directory.handle.Lchown(e.name, uid, gid) }

// chmod sets the mode of the file. It follows symbolic links, but not out of the directory; users
// who could place one there are rejected before.
func (e *entry) chmod(mode fs.FileMode) error { return e.directory.handle.Chmod(e.name, mode) }

// tryConnect connects to the socket and returns the error.
func (e *entry) tryConnect(string) error { return tryConnect(filepath.Join(e.directory.path, e.name)) }

// dial connects to the socket.
func (e *entry) dial(ctx context.Context, path string) (net.Conn, error) {
	var dialer net.Dialer
	return dialer.DialContext(ctx, networkUnix, path)
}

// openExact opens the directory at path itself, and no link to it. The way to it is not checked.
func openExact(path string) (*directory, fs.FileInfo, error) {
	before, err := os.Lstat(path)
	if err != nil {
		return nil, nil, err
	}
	handle, err := os.OpenRoot(path)
	if err != nil {
		return nil, nil, err
	}
	info, err := handle.Stat(".")
	if err == nil && !os.SameFile(before, info) {
		err = fmt.Errorf("%w: the directory %s is a link, or was replaced meanwhile", errdefs.ErrInvalidSocketPath, path)
	}
	if err != nil {
		return nil, nil, errdefs.First(err, handle.Close())
	}
	return &directory{handle: handle, path: path}, info, nil
}
