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
	"slices"
	"strings"
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
	path string
	root *os.Root
	self *os.File // The directory itself: it holds the lock.
}

var _ Disk = (*dir)(nil)

// Open opens the directory at a path, makes it with mode 0700 if it is missing, and locks it. The
// directory must belong to the user of this process, and nobody else may write to it: ErrUnsafe.
// A directory that is locked already is ErrInUse.
func Open(path string) (Disk, error) {
	if err := makeDir(path); err != nil {
		return nil, fmt.Errorf("making the directory of the spool: %w", full(err))
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("opening the directory of the spool: %w", err)
	}
	self, err := root.Open(".")
	if err == nil {
		d := &dir{path, root, self}
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

// check rejects a directory in which another user can replace files.
func (d *dir) check() error {
	info, err := d.self.Stat()
	if err != nil {
		return fmt.Errorf("asking for the owner of %s: %w", d.path, err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return fmt.Errorf("%w: %s is no directory", ErrUnsafe, d.path)
	case !ok || int(stat.Uid) != os.Geteuid():
		return fmt.Errorf("%w: the directory %s does not belong to uid %d: run as its owner, or take another directory",
			ErrUnsafe, d.path, os.Geteuid())
	case info.Mode().Perm()&others != 0:
		return fmt.Errorf("%w: others may write to the directory %s (mode %v): take that from them (chmod 0700)",
			ErrUnsafe, d.path, info.Mode().Perm())
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

// Create, Open, Remove, Rename, List, SyncNames and Close are those of Disk.
func (d *dir) Create(name string) (File, error) {
	f, err := d.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return nil, full(err)
	}
	return file{f}, nil
}

// Open looks before it opens: opening a pipe would wait. Only the owner of the directory can change
// the entry in between.
func (d *dir) Open(name string) (File, error) {
	info, err := d.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is no regular file (%v): move it away",
			ErrUnsafe, filepath.Join(d.path, name), info.Mode())
	}
	f, err := d.root.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, full(err)
	}
	return file{f}, nil
}

func (d *dir) Remove(name string) error { return d.root.Remove(name) }

func (d *dir) Rename(from, to string) error { return full(d.root.Rename(from, to)) }

func (d *dir) List() ([]Entry, error) {
	self, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer self.Close()
	found, err := self.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, entry := range found {
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if info.Mode().IsRegular() {
			entries = append(entries, Entry{entry.Name(), info.Size(), info.ModTime()})
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return entries, nil
}

func (d *dir) SyncNames() error { return full(d.self.Sync()) }

func (d *dir) Close() error { return errors.Join(d.self.Close(), d.root.Close()) }

// A file is an open file of the operating system.
type file struct{ *os.File }

func (f file) WriteAt(p []byte, offset int64) (int, error) {
	n, err := f.File.WriteAt(p, offset)
	return n, full(err)
}

func (f file) Truncate(size int64) error { return full(f.File.Truncate(size)) }

func (f file) Sync() error { return full(syncData(f.File)) }

func (f file) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// full makes the errors of a file system without room match ErrFull.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// control calls do with the descriptor of a file, which stays open meanwhile.
func control(f *os.File, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = conn.Control(func(fd uintptr) { result = do(int(fd)) })
	return errors.Join(err, result)
}
