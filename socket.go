// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file makes and removes listening sockets of one's own. What lies at a socket's path is removed
// only if it is a socket on which nobody listens, and nobody else may be at it at the same time.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// folderMode is the mode of the socket's folder if that has to be made.
const folderMode = 0o750

// A socketFile is a socket that this process has made at path, as it was then.
type socketFile struct {
	path string
	made fs.FileInfo
}

// A fileIdentity tells a file from all others, as long as it exists; the zero one is none.
type fileIdentity struct{ device, inode uint64 }

// listen makes the socket of cfg's address. The file is nil unless there is one.
func listen(cfg *readerConfig) (net.Listener, *socketFile, error) {
	if cfg.address.file() {
		return listenFile(cfg)
	}
	config := net.ListenConfig{KeepAliveConfig: tcpKeepAlive}
	listener, err := config.Listen(context.Background(), cfg.address.network, cfg.address.name)
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%w: %w", ErrSocketInUse, err)
	}
	return listener, nil, err
}

// listenFile makes the socket file with its mode and owner. Until both are right, nobody may connect
// who may not afterwards: it is bound with no more than its mode, and with no permission at all if
// its owner is still to change.
func listenFile(cfg *readerConfig) (net.Listener, *socketFile, error) {
	path := cfg.address.name
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return nil, nil, err
	}
	unlock, err := lockFolder(filepath.Dir(path))
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	if err := removeStale(path); err != nil {
		return nil, nil, err
	}
	mode := cfg.socketMode
	if cfg.socketUID >= 0 || cfg.socketGID >= 0 {
		mode = 0
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { narrow(fd, mode) })
	}}
	listener, err := config.Listen(context.Background(), networkUnix, path)
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%w: somebody made %s at this very moment", ErrSocketInUse, path)
	}
	if err != nil {
		return nil, nil, err
	}
	if unix, ok := listener.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false) // It would remove whatever lies at the path by then.
	}
	file, err := finishFile(cfg)
	if err != nil {
		_ = os.Remove(path)
		return nil, nil, firstError(err, listener.Close())
	}
	return listener, file, nil
}

// makeFolder makes a folder if it is not there. The way to it is looked at before and after.
func makeFolder(folder string) error {
	err := checkFolder(folder)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(folder, folderMode); err != nil {
		return fmt.Errorf("making the socket's folder: %w", err)
	}
	return checkFolder(folder)
}

// finishFile gives the socket, which is bound, its owner and then its mode, of which the umask may
// have taken a part.
func finishFile(cfg *readerConfig) (*socketFile, error) {
	path := cfg.address.name
	if cfg.socketUID >= 0 || cfg.socketGID >= 0 {
		if err := os.Lchown(path, cfg.socketUID, cfg.socketGID); err != nil {
			return nil, fmt.Errorf("giving the socket to %d:%d (WithSocketOwner): %w", cfg.socketUID, cfg.socketGID, err)
		}
	}
	made, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if made.Mode().Perm() != cfg.socketMode {
		if err := os.Chmod(path, cfg.socketMode); err != nil {
			return nil, fmt.Errorf("setting the socket's mode to %#o (WithSocketMode): %w", uint32(cfg.socketMode), err)
		}
	}
	return &socketFile{path: path, made: made}, nil
}

// removeStale makes way at path: nothing may lie there but a socket on which nobody listens.
func removeStale(path string) error {
	found, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case found.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%w %q: %s lies there; move it away or choose another path", ErrInvalidSocketPath, path, describe(found))
	}
	conn, err := net.DialTimeout(networkUnix, path, time.Second)
	switch {
	case err == nil:
		return firstError(fmt.Errorf("%w: somebody listens at %s", ErrSocketInUse, path), conn.Close())
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: whether anybody listens at %s cannot be told: %w", ErrSocketInUse, path, err)
	}
	if again, err := os.Lstat(path); err != nil || !os.SameFile(found, again) {
		return fmt.Errorf("%w: somebody replaced %s at this very moment", ErrSocketInUse, path)
	}
	return os.Remove(path)
}

// remove takes the socket away, if it is still the one that was made. It must be called while the
// socket is open, because a closed one's inode number may be somebody else's.
func (f *socketFile) remove() error {
	if f == nil {
		return nil
	}
	unlock, err := lockFolder(filepath.Dir(f.path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // The folder is gone, and the socket with it.
	}
	if err != nil {
		return err
	}
	defer unlock()
	if found, err := os.Lstat(f.path); err != nil || !os.SameFile(f.made, found) {
		return nil // Gone, or another's.
	}
	return os.Remove(f.path)
}

// identity is that of the file, which may be nil.
func (f *socketFile) identity() fileIdentity {
	if f == nil {
		return fileIdentity{}
	}
	return identityOf(f.made)
}

// find returns the file, if it is still at the address, with the mode and the owner that are wanted now.
func (f fileIdentity) find(cfg *readerConfig) (*socketFile, error) {
	made, err := os.Lstat(cfg.address.name)
	if err != nil || f == (fileIdentity{}) || identityOf(made) != f {
		return nil, nil // Whoever connects comes to somebody else now.
	}
	return finishFile(cfg)
}

// describe says what lies at a path, for people.
func describe(info fs.FileInfo) string {
	switch info.Mode().Type() {
	case 0:
		return "a regular file"
	case fs.ModeDir:
		return "a folder"
	case fs.ModeSymlink:
		return "a symbolic link"
	case fs.ModeNamedPipe:
		return "a named pipe"
	}
	return "a device or something else that is no socket"
}
