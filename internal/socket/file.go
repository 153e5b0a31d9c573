// SPDX-License-Identifier: Apache-2.0

package socket

// This file creates and removes listening sockets. A file at a socket's path is removed only if it
// is a socket on which no process listens. Sockets are created under a lock that only this
// process's user can hold: of two Readers that start at once, the second one finds that the first
// one listens. A Reader removes its socket without the lock while it still listens, so that no
// other Reader takes the socket for stale.

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

// A File is a socket file that this process created or inherited.
type File struct {
	directory *directory
	name      string
	entry     *entry // Open, so that no other file gets its identity.
}

// An Identity identifies a file while it exists. The zero value is no file.
type Identity struct{ Device, Inode uint64 }

// A Spec describes a listener.
type Spec struct {
	Address  Address
	Mode     fs.FileMode // Of the socket file.
	Uid, Gid int         // Of the socket file; a negative one is not changed.
}

// OwnerSet reports whether the owner or the group of the socket file is to be changed.
func (s Spec) OwnerSet() bool { return s.Uid >= 0 || s.Gid >= 0 }

// Listen listens at the address of spec. The file is nil unless the address is a socket file.
func Listen(spec Spec) (net.Listener, *File, error) {
	if spec.Address.IsFile() {
		return listenFile(spec)
	}
	config := net.ListenConfig{KeepAliveConfig: tcpKeepAlive, Control: func(_, resolved string, _ syscall.RawConn) error {
		return spec.Address.checkLocalhost(resolved)
	}}
	config.SetMultipathTCP(false) // Useless on one machine, and without socket filters (FilterNewConnections).
	listener, err := config.Listen(context.Background(), spec.Address.network, spec.Address.name)
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%w: %w", errdefs.ErrSocketInUse, err)
	}
	return listener, nil, err
}

// listenFile creates the socket file with its mode and owner. Until both are set, no user may
// connect who may not connect afterwards: the socket is bound with at most its mode, and without
// any permission if its owner is still to change.
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

// listenIn creates the socket file in dir. It is bound by its path, which peers and tools see. All
// other operations use dir.
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
		err = fmt.Errorf("%w: %s was created meanwhile", errdefs.ErrSocketInUse, path)
	}
	if err != nil {
		return nil, nil, err
	}
	if unix, ok := listener.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false) // It would remove any file that has the path by then.
	}
	made, err := finishNew(dir, name, spec)
	if err != nil {
		return nil, nil, errdefs.First(err, listener.Close())
	}
	return listener, made, nil
}

// finishNew sets the mode and the owner of a socket that was just bound. If that fails, it removes
// the socket.
func finishNew(dir *directory, name string, spec Spec) (*entry, error) {
	bound, err := dir.find(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s was removed meanwhile: %w",
			errdefs.ErrSocketInUse, spec.Address.name, err)
	}
	if err != nil {
		return nil, errdefs.First(err, dir.remove(name))
	}
	if bound.info.Mode().Type() != fs.ModeSocket || ownerOf(bound.info) != os.Geteuid() {
		bound.close()
		return nil, fmt.Errorf("%w: %s was replaced meanwhile",
			errdefs.ErrInvalidSocketPath, spec.Address.name)
	}
	if err := setOwnerAndMode(bound, spec); err != nil {
		bound.close()
		return nil, errdefs.First(err, dir.remove(name))
	}
	return bound, nil
}

// setOwnerAndMode sets the owner of a bound socket, and then its mode, from which the umask may
// have removed bits.
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

// Remove removes the socket file if it is still the one that was created. It must be called while
// the listener is open: no other Reader replaces a socket on which a process listens.
func (f *File) Remove() error {
	if f == nil {
		return nil
	}
	defer f.Close()
	_, err := f.directory.removeSame(f.name, f.entry)
	return err
}

// Close releases the descriptors and leaves the socket file. f may be nil and is not used
// afterwards.
func (f *File) Close() {
	if f != nil {
		f.entry.close()
		f.directory.close()
	}
}

// Identity returns the identity of the file. f may be nil.
func (f *File) Identity() Identity {
	if f == nil {
		return Identity{}
	}
	return identityOf(f.entry.info)
}

// Find returns the file if it is still at the address of spec, with the mode and owner of spec.
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
			return nil, nil // It was removed.
		}
		return nil, err
	}
	file := &File{directory: dir, name: name, entry: bound}
	if f == (Identity{}) || file.Identity() != f || bound.info.Mode().Type() != fs.ModeSocket {
		file.Close()
		return nil, nil // The path is another file now.
	}
	if err := setOwnerAndMode(bound, spec); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// OutOfResources reports whether err is a lack of resources, so that a retry may succeed later.
func OutOfResources(err error) bool {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
