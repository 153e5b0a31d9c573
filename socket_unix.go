// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package udsipc

// This file is what the making of a socket file needs of a Unix system.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"
)

const (
	lockWait = time.Second // How long the folder may be locked by another process.
	lockStep = time.Millisecond
)

// narrow gives a socket that is not bound yet the mode that its file will have, less the umask: bind
// takes it from the socket's own inode (Linux, unix_bind_bsd; FreeBSD, unix(4)). Darwin refuses; there
// the mode is set after bind alone, and the folder's permissions have to protect until then.
func narrow(fd uintptr, mode fs.FileMode) {
	_ = syscall.Fchmod(int(fd), uint32(mode.Perm()))
}

// lockFolder makes sure that no two processes make or remove sockets in a folder at the same time.
// The lock leaves nothing behind, and the system releases it when its holder dies (flock(2)).
func lockFolder(path string) (unlock func(), err error) {
	folder, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("locking the socket's folder: %w", err)
	}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(lockStep) {
		err = flock(folder)
		if err == nil {
			return func() { _ = folder.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(deadline) {
			_ = folder.Close()
			return nil, fmt.Errorf("%w: another process keeps the folder %s locked: %w", ErrSocketInUse, path, err)
		}
	}
}

func flock(folder *os.File) error {
	raw, err := folder.SyscallConn()
	if err != nil {
		return err
	}
	var lockErr error
	err = raw.Control(func(fd uintptr) { lockErr = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB) })
	return firstError(lockErr, err)
}

// identityOf tells a file from all others.
func identityOf(info fs.FileInfo) fileIdentity {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return fileIdentity{device: uint64(stat.Dev), inode: stat.Ino}
	}
	return fileIdentity{}
}
