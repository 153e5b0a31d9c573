// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package disk

// This file has the files of a directory.

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

// givenSuffix is behind the name of a file until it belongs to the owner of the directory, who could not
// open it before.
const givenSuffix = ".root"

// Create, Open, Remove, Rename, List, SyncNames and Close are those of Disk.
func (d *dir) Create(name string) (File, error) {
	if d.given {
		return d.createGiven(name)
	}
	f, err := d.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return nil, full(err)
	}
	return file{f}, nil
}

// createGiven makes a file that has its name when it has its owner.
func (d *dir) createGiven(name string) (File, error) {
	made := name + givenSuffix
	d.root.Remove(made) // It is left of a process that was killed.
	f, err := d.root.OpenFile(made, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return nil, full(err)
	}
	if err = f.Chown(d.uid, d.gid); err == nil {
		err = d.root.Link(made, name)
	}
	d.root.Remove(made)
	if err != nil {
		f.Close()
		return nil, full(err)
	}
	return file{f}, nil
}

// Open looks before it opens: opening a pipe would wait. It looks again at what it has opened, because
// the owner of the directory may have replaced the entry in between, and this process may be root.
func (d *dir) Open(name string) (File, error) {
	info, err := d.root.Lstat(name)
	if isBroken(err) {
		return Broken(err), nil
	}
	if err != nil {
		return nil, err
	}
	if err := d.checkFile(name, info); err != nil {
		return nil, err
	}
	f, err := d.root.OpenFile(name, os.O_RDWR, 0)
	if isBroken(err) {
		return Broken(err), nil
	}
	if err != nil {
		return nil, full(err)
	}
	if info, err = f.Stat(); err == nil {
		err = d.checkFile(name, info)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return file{f}, nil
}

// checkFile rejects what is no regular file of the owner of the directory. A hard link to a file of
// another user is such a file of the other one.
func (d *dir) checkFile(name string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: %s is no regular file (%v): move it away",
			ErrUnsafe, filepath.Join(d.path, name), info.Mode())
	case !ok || int(stat.Uid) != d.uid:
		return fmt.Errorf("%w: %s does not belong to uid %d, the owner of the directory: move it away, or chown it",
			ErrUnsafe, filepath.Join(d.path, name), d.uid)
	}
	return nil
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
		switch {
		case isBroken(err):
			entries = append(entries, Entry{Name: entry.Name()})
		case err != nil:
			return nil, err
		default:
			entries = append(entries, Entry{entry.Name(), info.Size(), info.ModTime()})
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return entries, nil
}

func (d *dir) SyncNames() error { return errors.Join(full(d.self.Sync()), d.gone()) }

// gone returns an error if the directory was removed: what is written to its files ends with this process.
func (d *dir) gone() error {
	info, err := d.self.Stat()
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Nlink == 0 {
		return fmt.Errorf("the directory %s was removed while it was in use: %w", d.path, fs.ErrNotExist)
	}
	return nil
}

func (d *dir) Close() error { return errors.Join(d.unlock(), d.self.Close(), d.root.Close()) }

// A file is an open file of the operating system.
type file struct{ *os.File }

func (f file) WriteAt(p []byte, offset int64) (int, error) {
	n, err := f.File.WriteAt(p, offset)
	return n, full(err)
}

func (f file) Truncate(size int64) error { return full(f.File.Truncate(size)) }

func (f file) Sync() error { return full(syncData(f.File)) }

func (f file) ID() uint64 {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return stat.Ino
}

func (f file) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// full makes the errors of a file system without room match ErrFull.
func full(err error) error {
	switch {
	case errors.Is(err, syscall.EFBIG):
		return fmt.Errorf("%w: %w: %w", ErrFull, ErrFileSize, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
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
