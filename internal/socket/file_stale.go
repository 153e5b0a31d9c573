// SPDX-License-Identifier: Apache-2.0

package socket

// This file decides about what lies at a socket's path already: it is removed only if it is a socket on which nobody
// listens.

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

// removeStale makes way at path: nothing may lie there but a socket on which nobody listens. It is called
// under the directory's lock.
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
		return fmt.Errorf("%w: somebody listens at %s", errdefs.ErrSocketInUse, path)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: whether anybody listens at %s cannot be told: %w", errdefs.ErrSocketInUse, path, err)
	}
	removed, err := dir.removeSame(name, found)
	if err == nil && !removed {
		err = fmt.Errorf("%w: somebody replaced %s at this very moment", errdefs.ErrSocketInUse, path)
	}
	return err
}

// tryConnect connects to the socket at path, and says how that went.
func tryConnect(path string) error {
	conn, err := net.DialTimeout(networkUnix, path, time.Second)
	if err == nil {
		_ = conn.Close()
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return op.Err // Without the path, which is one of this process's descriptor.
	}
	return err
}

// tryConnectWithMode is knock at a socket of this user's whose mode keeps its owner out: because of WithSocketMode, or
// because a Reader was killed before it had set the mode. The owner may change that, and does for this moment.
func (e *entry) tryConnectWithMode(path string) error {
	mode := e.info.Mode().Perm()
	if err := e.chmod(mode | 0o200); err != nil {
		return err
	}
	return errdefs.First(e.tryConnect(path), e.chmod(mode))
}

// removeSame takes a name away, if what has it is still the same file.
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
