// SPDX-License-Identifier: Apache-2.0

package socket

// This file handles a directory whose only content is the sockets of one user. The directory is checked when it is
// opened; each socket in it is then reached through the open directory.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/udsipc/udsipc/internal/errdefs"
)

const (
	// privateMode is the mode of a private directory.
	privateMode = 0o700
	// maxNames is how many names of a directory are read.
	maxNames = 4096
)

// MakePrivate makes sure that path is a directory which belongs to the user of this process, and which no other
// user may enter. A missing directory is created. A symbolic link is an error.
func MakePrivate(path string) error {
	switch err := os.Mkdir(path, privateMode); {
	case err == nil:
		err = os.Chmod(path, privateMode) // The umask may have removed a part.
		if err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	owner, err := privateOwner(path)
	if err == nil && owner != os.Geteuid() {
		err = fmt.Errorf("%w: the directory %s belongs to uid %d and not to uid %d",
			errdefs.ErrInvalidSocketPath, path, owner, os.Geteuid())
	}
	return err
}

// OwnerOf returns the user whom a file belongs to, itself and not what a link leads to; -1 without one.
func OwnerOf(path string) int {
	info, err := os.Lstat(path)
	if err != nil || !privateModes {
		return -1
	}
	return ownerOf(info)
}

// privateOwner returns the owner of a directory that only its owner may enter.
func privateOwner(path string) (uid int, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return -1, err
	}
	return ownerOf(info), checkPrivate(path, info)
}

// checkPrivate rejects what is not a directory that only its owner may enter.
func checkPrivate(path string, info fs.FileInfo) error {
	switch {
	case !privateModes:
		return fmt.Errorf("%w: this system has no directories that belong to one user alone", errors.ErrUnsupported)
	case !info.IsDir():
		return fmt.Errorf("%w: %s is %s and no directory", errdefs.ErrInvalidSocketPath, path, describe(info))
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%w: others than the owner may enter the directory %s (mode %v); take that from them (chmod go=)",
			errdefs.ErrInvalidSocketPath, path, info.Mode())
	}
	return nil
}

// A Folder is an open private directory.
type Folder struct {
	dir   *directory
	path  string
	owner int
}

// OpenFolder opens a private directory of any user. Everything in it is the owner's doing.
func OpenFolder(path string) (*Folder, error) {
	dir, info, err := openExact(path)
	if err != nil {
		return nil, err
	}
	if err := checkPrivate(path, info); err != nil {
		dir.close()
		return nil, err
	}
	return &Folder{dir: dir, path: path, owner: ownerOf(info)}, nil
}

// Owner returns the user whom the folder belongs to.
func (f *Folder) Owner() int { return f.owner }

// Close releases the folder.
func (f *Folder) Close() { f.dir.close() }

// Names returns the sorted names that end in suffix, up to a limit.
func (f *Folder) Names(suffix string) ([]string, error) {
	at, err := f.dir.list() // Not by its path, which the owner can make that of a pipe meanwhile.
	if err != nil {
		return nil, err
	}
	defer func() { _ = at.Close() }() // It was only read.
	names, err := at.Readdirnames(maxNames)
	if len(names) == 0 && err != nil {
		return nil, nil // It is empty, or was removed.
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, suffix) })
	slices.Sort(names)
	return names, nil
}

// Dial connects to a socket of the owner in the folder. It follows no symbolic link.
func (f *Folder) Dial(ctx context.Context, name string) (net.Conn, error) {
	found, err := f.dir.find(name)
	if err != nil {
		return nil, err
	}
	defer found.close()
	path := filepath.Join(f.path, name)
	switch {
	case found.info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%w: %s is %s and no socket", errdefs.ErrInvalidSocketPath, path, describe(found.info))
	case ownerOf(found.info) != f.owner:
		return nil, fmt.Errorf("%w: %s belongs to uid %d, the folder to uid %d",
			errdefs.ErrInvalidSocketPath, path, ownerOf(found.info), f.owner)
	}
	return found.dial(ctx, path)
}

// RemoveStale removes a socket of this process's user on which nobody listens. Anything else is an error.
func (f *Folder) RemoveStale(name string) error {
	if f.owner != os.Geteuid() {
		return fmt.Errorf("%w: %s belongs to uid %d", fs.ErrPermission, f.path, f.owner)
	}
	unlock, err := f.dir.lock(name)
	if err != nil {
		return err
	}
	defer unlock()
	return removeStale(f.dir, name, filepath.Join(f.path, name))
}
