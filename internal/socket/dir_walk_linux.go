// SPDX-License-Identifier: Apache-2.0

package socket

// This file resolves the path of a directory from the root directory on, one element at a time.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// A walk is the state of resolving a path.
type walk struct {
	at     *os.File // The current directory.
	path   string   // Its path, for errors.
	trust  trustedUIDs
	links  int
	create bool
	also   []int // More users who are trusted.
}

// restart makes the root directory the current one.
func (w *walk) restart() error {
	root, err := openAt(nil, "/", "/", oPath|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	info, err := root.Stat()
	if err == nil {
		w.trust = append(newTrustedUIDs(info), w.also...)
		err = w.trust.checkDirectory("/", info)
	}
	if err != nil {
		_ = root.Close()
		return err
	}
	w.goTo(root, "/")
	return nil
}

func (w *walk) goTo(dir *os.File, where string) {
	if w.at != nil {
		_ = w.at.Close()
	}
	w.at, w.path = dir, where
}

// step makes the directory name the current one. If name is a symbolic link, it returns the target
// instead.
func (w *walk) step(name string) (target string, err error) {
	if name == "" || name == "." {
		return "", nil
	}
	where := filepath.Join(w.path, name)
	next, err := w.open(name, where)
	if err != nil {
		return "", err
	}
	info, err := next.Stat()
	switch {
	case err != nil:
	case info.Mode()&fs.ModeSymlink != 0:
		target, err = w.follow(next, where, info)
		return target, errdefs.First(err, next.Close())
	default:
		err = w.trust.checkDirectory(where, info)
	}
	if err != nil {
		_ = next.Close()
		return "", err
	}
	w.goTo(next, where)
	return "", nil
}

// open opens a name. It first creates the directory, if that is wanted.
func (w *walk) open(name, where string) (*os.File, error) {
	next, err := openAt(w.at, name, where, oPath|syscall.O_NOFOLLOW, 0)
	if !w.create || !errors.Is(err, fs.ErrNotExist) {
		return next, err
	}
	err = control(w.at, func(at int) error { return syscall.Mkdirat(at, name, directoryMode) })
	if err != nil && !errors.Is(err, fs.ErrExist) { // Another Reader may have created it.
		return nil, fmt.Errorf("making the socket's directory: %w", &fs.PathError{Op: "mkdir", Path: where, Err: err})
	}
	return openAt(w.at, name, where, oPath|syscall.O_NOFOLLOW, 0)
}

// follow returns the target of a symbolic link, relative to the current directory.
func (w *walk) follow(link *os.File, where string, info fs.FileInfo) (target string, err error) {
	if err := w.trust.checkLink(where, info); err != nil {
		return "", err
	}
	if w.links++; w.links > maxSymlinks {
		return "", &fs.PathError{Op: "open", Path: where, Err: syscall.ELOOP}
	}
	if target, err = readLink(link); err != nil {
		return "", &fs.PathError{Op: "readlink", Path: where, Err: err}
	}
	if filepath.IsAbs(target) {
		err = w.restart()
	}
	return target, err
}

// readLink reads the target of an open link (readlinkat(2) with an empty path, since Linux 2.6.39).
func readLink(link *os.File) (target string, err error) {
	var empty [1]byte
	var buf [4096]byte // PATH_MAX.
	err = control(link, func(fd int) error {
		n, _, errno := syscall.Syscall6(syscall.SYS_READLINKAT, uintptr(fd), uintptr(unsafe.Pointer(&empty[0])),
			uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0, 0)
		if errno != 0 {
			return errno
		}
		target = string(buf[:n])
		return nil
	})
	return target, err
}
