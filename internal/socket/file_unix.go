// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package socket

// This file has what socket files need on a Unix system: modes and locks.

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
	lockWait = time.Second // How long to wait for another process that creates a socket of the same name.
	lockStep = time.Millisecond
)

// limitMode sets the mode of a socket before bind. The file gets this mode, less the umask: bind
// copies it from the socket's own inode (Linux, unix_bind_bsd; FreeBSD, unix(4)). Darwin refuses
// this. There the mode is only set after bind, and the permissions of the directory must protect
// the socket until then.
func limitMode(fd uintptr, mode fs.FileMode) {
	_ = syscall.Fchmod(int(fd), uint32(mode.Perm()))
}

// lock prevents two Readers of this user from creating the same socket at once. flock(2) needs only
// a descriptor. The lock is therefore on a file that no other user can open, and not on the
// directory, which others may read. The file is removed when the lock is released; a file that a
// killed process left is locked again.
//
// In a directory such as /tmp another user may have created the lock file. Then no lock is taken:
// otherwise that user could keep every Reader from starting. Two Readers of one path that start at
// the same moment may then replace each other's socket.
func (f *directory) lock(socket string) (unlock func(), err error) {
	name := "." + socket + ".lock"
	for deadline := time.Now().Add(lockWait); ; time.Sleep(lockStep) {
		file, err := f.create(name)
		if err != nil {
			if found, missing := f.find(name); missing == nil {
				found.close()
				return func() {}, nil // The file belongs to another user, or is no regular file.
			}
			if errors.Is(err, fs.ErrPermission) {
				return nil, fmt.Errorf("uid %d may not create a socket in the directory %s; use one of its own "+
					"($XDG_RUNTIME_DIR, RuntimeDirectory=): %w", os.Geteuid(), f.path, err)
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
			return func() { _, _ = f.remove(name), file.Close() }, nil // Best effort: a file that stays does no harm.
		case err != nil && !errors.Is(err, syscall.EWOULDBLOCK):
			_ = file.Close()
			return nil, fmt.Errorf("locking the socket's directory: %w", err)
		case time.Now().After(deadline):
			_ = file.Close()
			return nil, fmt.Errorf("%w: another process of this user has made %s in %s for %v",
				errdefs.ErrSocketInUse, socket, f.path, lockWait)
		}
		_ = file.Close() // Another process holds it, or has just removed the file.
	}
}

// ownAlone reports whether only this process's user can open a file.
func ownAlone(info fs.FileInfo) bool {
	return info.Mode().IsRegular() && info.Mode().Perm()&0o077 == 0 && ownerOf(info) == os.Geteuid()
}

// has reports whether name belongs to file.
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

// identityOf returns the identity of a file.
func identityOf(info fs.FileInfo) Identity {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return Identity{Device: uint64(stat.Dev), Inode: stat.Ino}
	}
	return Identity{}
}
