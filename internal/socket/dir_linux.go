// SPDX-License-Identifier: Apache-2.0

package socket

// This file handles the directory of a socket and the files in it with O_PATH descriptors
// (open(2)). They need no permission on the file and open neither pipes nor devices. While one is
// open, no other file gets the inode number.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// From fcntl.h, the same on all processors of Go. Package syscall does not define them everywhere.
const (
	oPath       = 0x200000
	atEmptyPath = 0x1000
)

// A directory is an open directory that no untrusted user can change.
type directory struct {
	handle *os.File
	path   string // The resolved path, without symbolic links.
}

// An entry is a file in a directory. It stays the same file if its name is given to another one.
type entry struct {
	file *os.File
	info fs.FileInfo
}

// openDirectory opens the directory of a socket. Each directory and symbolic link on the path must
// be trusted; those of the users in also are. If create is true, it creates missing directories.
func openDirectory(path string, create bool, also ...int) (*directory, error) {
	path, err := fromRoot(path)
	if err != nil {
		return nil, err
	}
	w := walk{create: create, also: also}
	if err := w.restart(); err != nil {
		return nil, err
	}
	for rest := strings.Split(path, "/"); len(rest) > 0; {
		target, err := w.step(rest[0])
		if err != nil {
			_ = w.at.Close()
			return nil, err
		}
		rest = rest[1:]
		if target != "" {
			rest = append(strings.Split(target, "/"), rest...)
		}
	}
	return &directory{handle: w.at, path: w.path}, nil
}

func (f *directory) close() { _ = f.handle.Close() }

// list opens the directory for reading its names.
func (f *directory) list() (*os.File, error) {
	return openAt(f.handle, ".", f.path, syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
}

// find returns the entry with that name. It does not follow a symbolic link.
func (f *directory) find(name string) (*entry, error) {
	file, err := openAt(f.handle, name, filepath.Join(f.path, name), oPath|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &entry{file: file, info: info}, nil
}

// look returns the file information for a name. It works also when no descriptor is left.
func (f *directory) look(name string) (info fs.FileInfo, err error) {
	found, err := f.find(name)
	if err == nil {
		found.close()
		return found.info, nil
	}
	if !OutOfResources(err) {
		return nil, err
	}
	lookErr := control(f.handle, func(fd int) error {
		info, err = os.Lstat(filepath.Join(ownPath(fd), name))
		return nil
	})
	return info, errdefs.First(err, lookErr)
}

// create opens a regular file, or creates it with permissions for the owner only. It does not
// block: another user who created the file may hold a lease on it (fcntl(2)).
func (f *directory) create(name string) (*os.File, error) {
	return openAt(f.handle, name, filepath.Join(f.path, name),
		syscall.O_RDWR|syscall.O_CREAT|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
}

// remove removes a name.
func (f *directory) remove(name string) error {
	err := control(f.handle, func(at int) error { return syscall.Unlinkat(at, name) })
	if err != nil {
		return &fs.PathError{Op: "remove", Path: filepath.Join(f.path, name), Err: err}
	}
	return nil
}

func (e *entry) close() { _ = e.file.Close() }

// chown sets the owner and the group of the file.
func (e *entry) chown(uid, gid int) error {
	return control(e.file, func(fd int) error { return syscall.Fchownat(fd, "", uid, gid, atEmptyPath) })
}

// chmod sets the mode of the file with fchmodat2(2) of Linux 6.6. On an older kernel, or under a
// system call filter without that call, it uses the descriptor's name in /proc. Without either it
// fails. The mode has to be set only if the umask has removed a part of it, or if there is an owner
// to set.
func (e *entry) chmod(mode fs.FileMode) error {
	return control(e.file, func(fd int) error {
		if syscall.Fchmodat(fd, "", uint32(mode.Perm()), atEmptyPath) == nil {
			return nil
		}
		err := syscall.Chmod(ownPath(fd), uint32(mode.Perm()))
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("it takes Linux 6.6 or a mounted /proc: %w", errors.ErrUnsupported)
		}
		return err
	})
}

// tryConnect connects to the socket and returns the error. Without /proc it uses the path.
func (e *entry) tryConnect(path string) error {
	err := control(e.file, func(fd int) error { return tryConnect(ownPath(fd)) })
	if errors.Is(err, fs.ErrNotExist) {
		return tryConnect(path)
	}
	return err
}

// dial connects to the socket. Without /proc it uses the path.
func (e *entry) dial(ctx context.Context, path string) (conn net.Conn, err error) {
	var dialer net.Dialer
	failed := control(e.file, func(fd int) error {
		conn, err = dialer.DialContext(ctx, networkUnix, ownPath(fd))
		return err
	})
	if errors.Is(failed, fs.ErrNotExist) {
		return dialer.DialContext(ctx, networkUnix, path)
	}
	return conn, failed
}

// openExact opens the directory at path itself, and no link to it. The way to it is not checked.
func openExact(path string) (*directory, fs.FileInfo, error) {
	handle, err := openAt(nil, path, path, oPath|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := handle.Stat()
	if err != nil {
		return nil, nil, errdefs.First(err, handle.Close())
	}
	return &directory{handle: handle, path: path}, info, nil
}

// ownPath returns a path for an open descriptor of this process (proc(5)).
func ownPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// openAt is openat(2). dir may be nil for an absolute name. where is the path for errors.
func openAt(dir *os.File, name, where string, flags int, mode uint32) (file *os.File, err error) {
	open := func(at int) error {
		for {
			fd, err := syscall.Openat(at, name, flags|syscall.O_CLOEXEC, mode)
			if err == nil {
				file = os.NewFile(uintptr(fd), where)
			}
			if err != syscall.EINTR {
				return err
			}
		}
	}
	if dir == nil {
		err = open(-1)
	} else {
		err = control(dir, open)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: where, Err: err}
	}
	return file, nil
}
