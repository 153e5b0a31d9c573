// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package disk

// This file is the directory of the operating system.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const (
	dirMode  = 0o700
	fileMode = 0o600
	others   = 0o022 // Group and all others may write.
)

// A dir is a directory. Files are found below its descriptor, not below its path, so that renaming it
// changes nothing.
type dir struct {
	path     string
	root     *os.Root
	self     *os.File // The directory itself: it holds the lock.
	uid, gid int      // Its owner, to whom all files belong.
	given    bool     // Files are made by root, and given to the owner.
}

var _ Disk = (*dir)(nil)

// Open opens the directory at a path, makes it with mode 0700 if it is missing, and locks it. The
// directory must belong to the user of this process, and nobody else may write to it: ErrUnsafe.
// A directory that is locked already is ErrInUse.
//
// A symbolic link at the end of the path is followed if it belongs to root or to the owner of the
// directory, else it is ErrUnsafe. Only such users may be able to change what comes before it.
func Open(path string) (Disk, error) {
	if err := makeDir(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("making the directory %s: its parent is missing: make it, "+
			"or let systemd do that (StateDirectory=): %w", path, fs.ErrNotExist)
	} else if err != nil {
		return nil, fmt.Errorf("making the directory of the spool: %w", full(err))
	}
	return openDir(path, os.Geteuid())
}

// Adopt is Open of a directory that exists, and that may belong to another user if this one is root.
// What it makes belongs to the owner of the directory.
func Adopt(path string) (Disk, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("opening the directory of the spool: %w", err)
	}
	owner := os.Geteuid()
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && owner == 0 {
		owner = int(stat.Uid)
	}
	return openDir(path, owner)
}

// openDir opens the directory of an owner.
func openDir(path string, owner int) (Disk, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("opening the directory of the spool: %w", err)
	}
	self, err := root.Open(".")
	if err == nil {
		d := &dir{path: path, root: root, self: self, uid: owner, given: owner != os.Geteuid()}
		if err = d.check(); err == nil {
			err = d.lock()
		}
		if err == nil {
			return d, nil
		}
		self.Close()
	}
	root.Close()
	return nil, err
}

// makeDir makes a missing directory and makes its name survive the machine. Its parent must exist.
func makeDir(path string) error {
	if path == "" {
		return fmt.Errorf("its path is empty: %w", fs.ErrInvalid)
	}
	err := os.Mkdir(path, dirMode)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(filepath.Clean(path)))
	if err != nil {
		return nil // A parent that may be passed but not read: the name is left to the kernel.
	}
	defer parent.Close()
	return parent.Sync()
}

// check rejects a directory in which another user can replace files, or to which one has led.
func (d *dir) check() error {
	info, err := d.self.Stat()
	if err != nil {
		return fmt.Errorf("asking for the owner of %s: %w", d.path, err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return fmt.Errorf("%w: %s is no directory", ErrUnsafe, d.path)
	case !ok || int(stat.Uid) != d.uid:
		return fmt.Errorf("%w: the directory %s does not belong to uid %d: run as its owner, or take another directory",
			ErrUnsafe, d.path, d.uid)
	case info.Mode().Perm()&others != 0:
		return fmt.Errorf("%w: others may write to the directory %s (mode %#o): take that from them (chmod 0700)",
			ErrUnsafe, d.path, info.Mode().Perm())
	}
	d.gid = int(stat.Gid)
	return d.checkLink(info)
}

// checkLink rejects a path that leads over a link of another user, or led elsewhere a moment ago.
func (d *dir) checkLink(opened fs.FileInfo) error {
	info, err := os.Lstat(filepath.Clean(d.path))
	if err != nil {
		return fmt.Errorf("asking for the owner of %s: %w", d.path, err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch isLink := info.Mode()&fs.ModeSymlink != 0; {
	case isLink && (!ok || stat.Uid != 0 && int(stat.Uid) != d.uid):
		return fmt.Errorf("%w: the symbolic link %s belongs neither to root nor to uid %d", ErrUnsafe, d.path, d.uid)
	case !isLink && !os.SameFile(info, opened):
		return fmt.Errorf("%w: %s was replaced while it was opened", ErrUnsafe, d.path)
	}
	return nil
}

// lock takes the lock of the directory, which ends with the process or with Close.
func (d *dir) lock() error {
	err := control(d.self, func(fd int) error { return syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB) })
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("%w: another Writer has %s: stop it, or take another directory", ErrInUse, d.path)
	}
	if err != nil {
		return fmt.Errorf("locking %s: %w", d.path, err)
	}
	return nil
}

// unlock ends the lock at once. Closing the descriptor does not while this process starts another one, which has a
// copy until it runs its program.
func (d *dir) unlock() error {
	return control(d.self, func(fd int) error { return syscall.Flock(fd, syscall.LOCK_UN) })
}
