// SPDX-License-Identifier: Apache-2.0

package udsipc

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
	"time"
)

// A socketFile is a socket that this process has made, or inherited, in folder.
type socketFile struct {
	folder *folder
	name   string
	made   *entry // Open, so that no other file can be taken for it.
}

// A fileIdentity tells a file from all others, as long as it exists; the zero one is none.
type fileIdentity struct{ device, inode uint64 }

// listen makes the socket of cfg's address. The file is nil unless there is one.
func listen(cfg *readerConfig) (net.Listener, *socketFile, error) {
	if cfg.address.file() {
		return listenFile(cfg)
	}
	config := net.ListenConfig{KeepAliveConfig: tcpKeepAlive, Control: func(_, resolved string, _ syscall.RawConn) error {
		return cfg.address.checkLocalhost(resolved)
	}}
	config.SetMultipathTCP(false) // It is not one path more on one machine, and takes no filter (dropConnections).
	listener, err := config.Listen(context.Background(), cfg.address.network, cfg.address.name)
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%w: %w", errSocketInUse, err)
	}
	return listener, nil, err
}

// listenFile makes the socket file with its mode and owner. Until both are right, nobody may connect
// who may not afterwards: it is bound with no more than its mode, and with no permission at all if
// its owner is still to change.
func listenFile(cfg *readerConfig) (net.Listener, *socketFile, error) {
	where, name := cfg.address.split()
	folder, err := openFolder(where, true)
	if err != nil {
		return nil, nil, err
	}
	listener, made, err := listenIn(folder, name, cfg)
	if err != nil {
		folder.close()
		return nil, nil, err
	}
	return listener, &socketFile{folder: folder, name: name, made: made}, nil
}

// listenIn makes the socket file in folder. It is bound by its path, which is the name that peers and tools
// see; all else that is done to it is done in folder.
func listenIn(folder *folder, name string, cfg *readerConfig) (net.Listener, *entry, error) {
	path := cfg.address.name
	unlock, err := folder.lock(name)
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	if err := removeStale(folder, name, path); err != nil {
		return nil, nil, err
	}
	mode := cfg.socketMode
	if cfg.ownerSet() {
		mode = 0
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { narrow(fd, mode) })
	}}
	listener, err := config.Listen(context.Background(), networkUnix, path)
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%w: somebody made %s at this very moment", errSocketInUse, path)
	}
	if err != nil {
		return nil, nil, err
	}
	if unix, ok := listener.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false) // It would remove whatever lies at the path by then.
	}
	made, err := finishNew(folder, name, cfg)
	if err != nil {
		return nil, nil, firstError(err, listener.Close())
	}
	return listener, made, nil
}

// finishNew finishes the socket that was just bound, or removes it.
func finishNew(folder *folder, name string, cfg *readerConfig) (*entry, error) {
	bound, err := folder.find(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: somebody took %s away at this very moment: %w", errSocketInUse, cfg.address.name, err)
	}
	if err != nil {
		return nil, firstError(err, folder.remove(name))
	}
	if bound.info.Mode().Type() != fs.ModeSocket || ownerOf(bound.info) != os.Geteuid() {
		bound.close()
		return nil, fmt.Errorf("%w: somebody replaced %s at this very moment", errInvalidSocketPath, cfg.address.name)
	}
	if err := finishFile(bound, cfg); err != nil {
		bound.close()
		return nil, firstError(err, folder.remove(name))
	}
	return bound, nil
}

// finishFile gives the socket, which is bound, its owner and then its mode, of which the umask may
// have taken a part.
func finishFile(bound *entry, cfg *readerConfig) error {
	if cfg.ownerSet() {
		if err := bound.chown(cfg.socketUID, cfg.socketGID); err != nil {
			return fmt.Errorf("giving the socket to %d:%d (WithSocketOwner): %w", cfg.socketUID, cfg.socketGID, err)
		}
	}
	if bound.info.Mode().Perm() != cfg.socketMode {
		if err := bound.chmod(cfg.socketMode); err != nil {
			return fmt.Errorf("setting the socket's mode to %#o (WithSocketMode): %w", uint32(cfg.socketMode), err)
		}
	}
	return nil
}

// removeStale makes way at path: nothing may lie there but a socket on which nobody listens. It is called
// under the folder's lock.
func removeStale(folder *folder, name, path string) error {
	found, err := folder.find(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer found.close()
	if found.info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%w %q: %s lies there; move it away or choose another path", errInvalidSocketPath, path, describe(found.info))
	}
	err = found.knock(path)
	if errors.Is(err, fs.ErrPermission) && ownerOf(found.info) == os.Geteuid() {
		err = found.knockWithPermission(path)
	}
	switch {
	case err == nil:
		return fmt.Errorf("%w: somebody listens at %s", errSocketInUse, path)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: whether anybody listens at %s cannot be told: %w", errSocketInUse, path, err)
	}
	removed, err := folder.removeSame(name, found)
	if err == nil && !removed {
		err = fmt.Errorf("%w: somebody replaced %s at this very moment", errSocketInUse, path)
	}
	return err
}

// knock connects to the socket at path, and says how that went.
func knock(path string) error {
	conn, err := net.DialTimeout(networkUnix, path, time.Second)
	if err == nil {
		_ = conn.Close()
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return op.Err // Without the path, which is one of this process's descriptor.
	}
	return err
}

// knockWithPermission is knock at a socket of this user's whose mode keeps its owner out: because of WithSocketMode, or
// because a Reader was killed before it had set the mode. The owner may change that, and does for this moment.
func (e *entry) knockWithPermission(path string) error {
	mode := e.info.Mode().Perm()
	if err := e.chmod(mode | 0o200); err != nil {
		return err
	}
	return firstError(e.knock(path), e.chmod(mode))
}

// removeSame takes a name away, if what has it is still the same file.
func (f *folder) removeSame(name string, same *entry) (removed bool, err error) {
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

// remove takes the socket away, if it is still the one that was made. It must be called before the socket
// is shut: as long as somebody listens on it, no other Reader replaces it.
func (f *socketFile) remove() error {
	if f == nil {
		return nil
	}
	defer f.leave()
	_, err := f.folder.removeSame(f.name, f.made)
	return err
}

// leave leaves the socket where it is. The file, which may be nil, is of no use afterwards.
func (f *socketFile) leave() {
	if f != nil {
		f.made.close()
		f.folder.close()
	}
}

// identity is that of the file, which may be nil.
func (f *socketFile) identity() fileIdentity {
	if f == nil {
		return fileIdentity{}
	}
	return identityOf(f.made.info)
}

// find returns the file, if it is still at the address, with the mode and the owner that are wanted now.
func (f fileIdentity) find(cfg *readerConfig) (*socketFile, error) {
	where, name := cfg.address.split()
	folder, err := openFolder(where, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	bound, err := folder.find(name)
	if err != nil {
		folder.close()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil // It is gone.
		}
		return nil, err
	}
	file := &socketFile{folder: folder, name: name, made: bound}
	if f == (fileIdentity{}) || file.identity() != f || bound.info.Mode().Type() != fs.ModeSocket {
		file.leave()
		return nil, nil // Whoever connects comes to somebody else now.
	}
	if err := finishFile(bound, cfg); err != nil {
		file.leave()
		return nil, err
	}
	return file, nil
}
