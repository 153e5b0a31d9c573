// SPDX-License-Identifier: Apache-2.0

package socket

// This file makes and removes listening sockets of one's own. What lies at a socket's path is removed
// only if it is a socket on which nobody listens. Sockets are made under a lock that nobody but this
// process's user can hold, so that of two Readers that start at once one finds the other listening.
// They are removed without it, by a Reader that still listens, so that no other takes its socket for stale.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// A File is a socket that this process has made, or inherited, in directory.
type File struct {
	directory *directory
	name      string
	entry     *entry // Open, so that no other file can be taken for it.
}

// An Identity tells a file from all others, as long as it exists; the zero one is none.
type Identity struct{ Device, Inode uint64 }

// A Spec says what a listener is to be like.
type Spec struct {
	Address  Address
	Mode     fs.FileMode // Of the socket file.
	Uid, Gid int         // Whom it is given to; a negative one stays as it is.
}

// OwnerSet says whether the socket file is to be given away.
func (s Spec) OwnerSet() bool { return s.Uid >= 0 || s.Gid >= 0 }

// Listen makes the socket of the spec's address. The file is nil unless there is one.
func Listen(spec Spec) (net.Listener, *File, error) {
	if spec.Address.IsFile() {
		return listenFile(spec)
	}
	config := net.ListenConfig{KeepAliveConfig: tcpKeepAlive, Control: func(_, resolved string, _ syscall.RawConn) error {
		return spec.Address.checkLocalhost(resolved)
	}}
	config.SetMultipathTCP(false) // It is not one path more on one machine, and takes no filter (FilterNewConnections).
	listener, err := config.Listen(context.Background(), spec.Address.network, spec.Address.name)
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%w: %w", errdefs.ErrSocketInUse, err)
	}
	return listener, nil, err
}

// listenFile makes the socket file with its mode and owner. Until both are right, nobody may connect
// who may not afterwards: it is bound with no more than its mode, and with no permission at all if
// its owner is still to change.
func listenFile(spec Spec) (net.Listener, *File, error) {
	where, name := spec.Address.split()
	dir, err := openDirectory(where, true)
	if err != nil {
		return nil, nil, err
	}
	listener, made, err := listenIn(dir, name, spec)
	if err != nil {
		dir.close()
		return nil, nil, err
	}
	return listener, &File{directory: dir, name: name, entry: made}, nil
}

// listenIn makes the socket file in directory. It is bound by its path, which is the name that peers and tools
// see; all else that is done to it is done in directory.
func listenIn(dir *directory, name string, spec Spec) (net.Listener, *entry, error) {
	path := spec.Address.name
	unlock, err := dir.lock(name)
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	if err := removeStale(dir, name, path); err != nil {
		return nil, nil, err
	}
	mode := spec.Mode
	if spec.OwnerSet() {
		mode = 0
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { limitMode(fd, mode) })
	}}
	listener, err := config.Listen(context.Background(), networkUnix, path)
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%w: somebody made %s at this very moment", errdefs.ErrSocketInUse, path)
	}
	if err != nil {
		return nil, nil, err
	}
	if unix, ok := listener.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false) // It would remove whatever lies at the path by then.
	}
	made, err := finishNew(dir, name, spec)
	if err != nil {
		return nil, nil, errdefs.First(err, listener.Close())
	}
	return listener, made, nil
}

// finishNew finishes the socket that was just bound, or removes it.
func finishNew(dir *directory, name string, spec Spec) (*entry, error) {
	bound, err := dir.find(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: somebody took %s away at this very moment: %w",
			errdefs.ErrSocketInUse, spec.Address.name, err)
	}
	if err != nil {
		return nil, errdefs.First(err, dir.remove(name))
	}
	if bound.info.Mode().Type() != fs.ModeSocket || ownerOf(bound.info) != os.Geteuid() {
		bound.close()
		return nil, fmt.Errorf("%w: somebody replaced %s at this very moment",
			errdefs.ErrInvalidSocketPath, spec.Address.name)
	}
	if err := setOwnerAndMode(bound, spec); err != nil {
		bound.close()
		return nil, errdefs.First(err, dir.remove(name))
	}
	return bound, nil
}

// setOwnerAndMode gives the socket, which is bound, its owner and then its mode, of which the umask may
// have taken a part.
func setOwnerAndMode(bound *entry, spec Spec) error {
	if spec.OwnerSet() {
		if err := bound.chown(spec.Uid, spec.Gid); err != nil {
			return fmt.Errorf("giving the socket to %d:%d (WithSocketOwner): %w", spec.Uid, spec.Gid, err)
		}
	}
	if bound.info.Mode().Perm() != spec.Mode {
		if err := bound.chmod(spec.Mode); err != nil {
			return fmt.Errorf("setting the socket's mode to %#o (WithSocketMode): %w", uint32(spec.Mode), err)
		}
	}
	return nil
}

// Remove takes the socket away, if it is still the one that was made. It must be called before the socket
// is shut: as long as somebody listens on it, no other Reader replaces it.
func (f *File) Remove() error {
	if f == nil {
		return nil
	}
	defer f.Close()
	_, err := f.directory.removeSame(f.name, f.entry)
	return err
}

// Close leaves the socket where it is. The file, which may be nil, is of no use afterwards.
func (f *File) Close() {
	if f != nil {
		f.entry.close()
		f.directory.close()
	}
}

// Identity is that of the file, which may be nil.
func (f *File) Identity() Identity {
	if f == nil {
		return Identity{}
	}
	return identityOf(f.entry.info)
}

// Find returns the file, if it is still at the address, with the mode and the owner that are wanted now.
func (f Identity) Find(spec Spec) (*File, error) {
	where, name := spec.Address.split()
	dir, err := openDirectory(where, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	bound, err := dir.find(name)
	if err != nil {
		dir.close()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil // It is gone.
		}
		return nil, err
	}
	file := &File{directory: dir, name: name, entry: bound}
	if f == (Identity{}) || file.Identity() != f || bound.info.Mode().Type() != fs.ModeSocket {
		file.Close()
		return nil, nil // Whoever connects comes to somebody else now.
	}
	if err := setOwnerAndMode(bound, spec); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// OutOfResources reports whether what failed with err will work again once others have given something back.
func OutOfResources(err error) bool {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
