// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package socket

// This file is what the making of a socket file needs of a Unix system.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
)

const (
	lockWait = time.Second // How long another process may make a socket of that name.
	lockStep = time.Millisecond
)

// limitMode gives a socket that is not bound yet the mode that its file will have, less the umask: bind
// takes it from the socket's own inode (Linux, unix_bind_bsd; FreeBSD, unix(4)). Darwin refuses; there
// the mode is set after bind alone, and the directory's permissions have to protect until then.
func limitMode(fd uintptr, mode fs.FileMode) {
	_ = syscall.Fchmod(int(fd), uint32(mode.Perm()))
}

// lock makes sure that no two Readers of this user make the socket of that name at the same time. A lock
// takes no more than a descriptor (flock(2)), so it is on a file that nobody else can open, not on the
// directory, which others may read. The file is removed with the lock; one that a killed process has left
// is locked again.
//
// In a directory such as /tmp another user may have taken the lock file's name. Then nobody has the lock,
// because otherwise that user could keep every Reader from starting: two Readers of one path that start
// in the same instant may take each other for stale then.
func (f *directory) lock(socket string) (unlock func(), err error) {
	name := "." + socket + ".lock"
	for deadline := time.Now().Add(lockWait); ; time.Sleep(lockStep) {
		file, err := f.create(name)
		if err != nil {
			if found, missing := f.find(name); missing == nil {
				found.close()
				return func() {}, nil // Another user's, or no regular file.
			}
			return nil, fmt.Errorf("locking the socket's directory: %w", err)
		}
		info, err := file.Stat()
		if err == nil && !ownAlone(info) {
			_ = file.Close()
			return func() {}, nil
		}
		if err == nil {
			err = control(file, func(fd int) error { return syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB) })
		}
		has := false
		if err == nil {
			has, err = f.has(name, info)
		}
		switch {
		case has:
			return func() { _, _ = f.remove(name), file.Close() }, nil // Best effort: it does not matter to others.
		case err != nil && !errors.Is(err, syscall.EWOULDBLOCK):
			_ = file.Close()
			return nil, fmt.Errorf("locking the socket's directory: %w", err)
		case time.Now().After(deadline):
			_ = file.Close()
			return nil, fmt.Errorf("%w: another process of this user has made %s in %s for %v",
				errdefs.ErrSocketInUse, socket, f.path, lockWait)
		}
		_ = file.Close() // Another has it, or has removed it by now.
	}
}

// ownAlone says whether a file is one that nobody but this process's user can open.
func ownAlone(info fs.FileInfo) bool {
	return info.Mode().IsRegular() && info.Mode().Perm()&0o077 == 0 && ownerOf(info) == os.Geteuid()
}

// has says whether name is that of the file.
func (f *directory) has(name string, file fs.FileInfo) (bool, error) {
	found, err := f.look(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(found, file), err
}

// control calls do with the descriptor of file.
func control(file *os.File, do func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = do(int(fd)) })
	return errdefs.First(failed, err)
}

// identityOf tells a file from all others.
func identityOf(info fs.FileInfo) Identity {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return Identity{Device: uint64(stat.Dev), Inode: stat.Ino}
	}
	return Identity{}
}
