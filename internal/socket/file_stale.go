// SPDX-License-Identifier: Apache-2.0

package socket

// This file handles an existing file at a socket's path. It removes the file only if it is a socket
// on which no process listens.

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// removeStale removes a stale socket at path. Any other file is an error. It is called under the
// lock of the directory.
func removeStale(dir *directory, name, path string) error {
	found, err := dir.find(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer found.close()
	if found.info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%w %q: %s lies there; move it away or choose another path",
			errdefs.ErrInvalidSocketPath, path, describe(found.info))
	}
	err = found.tryConnect(path)
	if errors.Is(err, fs.ErrPermission) && ownerOf(found.info) == os.Geteuid() {
		err = found.tryConnectWithMode(path)
	}
	switch {
	case err == nil:
		return fmt.Errorf("%w: a process listens at %s", errdefs.ErrSocketInUse, path)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: unknown whether a process listens at %s: %w", errdefs.ErrSocketInUse, path, err)
	}
	removed, err := dir.removeSame(name, found)
	if err == nil && !removed {
		err = fmt.Errorf("%w: %s was replaced meanwhile", errdefs.ErrSocketInUse, path)
	}
	return err
}

// tryConnect connects to the socket at path and returns the error.
func tryConnect(path string) error {
	conn, err := net.DialTimeout(networkUnix, path, time.Second)
	if err == nil {
		_ = conn.Close()
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return op.Err // Without the path: it may be that of a descriptor in /proc.
	}
	return err
}

// tryConnectWithMode is tryConnect for a socket of this user whose mode excludes its owner. The
// reason is WithSocketMode, or a Reader that was killed before it set the mode. It changes the mode
// for the attempt.
func (e *entry) tryConnectWithMode(path string) error {
	mode := e.info.Mode().Perm()
	if err := e.chmod(mode | 0o200); err != nil {
		return err
	}
	return errdefs.First(e.tryConnect(path), e.chmod(mode))
}

// removeSame removes a name if it still belongs to the same file.
func (f *directory) removeSame(name string, same *entry) (removed bool, err error) {
	found, err := f.look(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !os.SameFile(same.info, found) {
		return false, nil
	}
	err = f.remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
