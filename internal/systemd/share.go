// SPDX-License-Identifier: Apache-2.0

package systemd

// This file stores descriptors with systemd for the next process of the service.

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
)

const (
	maxStoreName  = 255       // The longest name that systemd accepts (sd_notify(3), FDNAME=).
	maxStoreNames = 120 << 10 // All names: one variable of at most 128 KiB (execve(2), MAX_ARG_STRLEN).
)

// errStoreFull is returned if the descriptor store has no room.
var errStoreFull = errors.New(
	"the descriptor store is full, or there is none; raise FileDescriptorStoreMax= (systemd.service(5))")

// reservedStored is the room for the state and the probe.
const reservedStored = 2

// storedCount and storedNameBytes count what this process has stored. systemd enforces its limit
// but does not report it.
var storedCount, storedNameBytes atomic.Int64

// A StoreShare has the descriptors that one server stores with systemd.
type StoreShare struct {
	key string // A part of each name.

	mu          sync.Mutex     // Guards what follows.
	storedNames map[string]int // The number of stored descriptors with each name.
}

// NewStoreShare returns an empty StoreShare for a server with this key.
func NewStoreShare(key string) *StoreShare {
	return &StoreShare{key: key, storedNames: make(map[string]int)}
}

// Begin reserves room for the state. It returns an error without NOTIFY_SOCKET, or if the store has
// no room.
func (s *StoreShare) Begin() error {
	if _, err := notifyAddress(); err != nil {
		return err
	}
	return reserveStored(reservedStored)
}

// AddListener stores a listener if there is room.
func (s *StoreShare) AddListener(identity ListenerIdentity, conn syscall.Conn) error {
	return s.add(listenerKind(identity), conn)
}

// AddConn stores a connection of this kind if there is room. It returns the inode number of the
// socket.
func (s *StoreShare) AddConn(kind string, conn syscall.Conn) (inode uint64, err error) {
	if inode, err = inodeOf(conn); err != nil {
		return 0, err
	}
	return inode, s.add(kind, conn)
}

func (s *StoreShare) add(kind string, conn syscall.Conn) error {
	if err := reserveStored(1); err != nil {
		return err
	}
	if err := s.store(kind, conn); err != nil {
		releaseStored(1)
		return err
	}
	return nil
}

// AddState stores the hand-over state. Begin has reserved the room.
func (s *StoreShare) AddState(state []byte) error {
	file, err := newMemfd(storePrefix+StoreHandOverState, state)
	if err != nil {
		return err
	}
	defer file.Close()
	return s.store(StoreHandOverState, file)
}

// store stores a descriptor for which room is reserved.
func (s *StoreShare) store(kind string, conn syscall.Conn) error {
	name := storeName(kind, s.key)
	if err := storeDescriptor(name, conn); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.storedNames[name]++
	return nil
}

// Confirm returns an error unless systemd has kept everything that was stored.
func (s *StoreShare) Confirm() error { return confirmStored(storeName(StoreProbe, s.key)) }

// RemoveAll removes everything that was stored, with the state, and releases the room that Begin
// reserved.
func (s *StoreShare) RemoveAll() {
	s.mu.Lock()
	left := s.storedNames
	s.storedNames = make(map[string]int)
	s.mu.Unlock()
	releaseStored(reservedStored)
	for name, n := range left {
		if name != storeName(StoreHandOverState, s.key) { // The room for the state is released below.
			releaseStored(int64(n))
		}
		storedNameBytes.Add(-int64(n * (len(name) + 1)))
		_ = RemoveStored(name) // Best effort: without NOTIFY_SOCKET nothing was stored.
	}
}

// reserveStored reserves room for n descriptors. The limit is known since systemd 254 (FDSTORE,
// systemd.exec(5)).
func reserveStored(n int64) error {
	limit, err := strconv.ParseInt(os.Getenv("FDSTORE"), 10, 64)
	if storedCount.Add(n) > limit && err == nil {
		storedCount.Add(-n)
		return errStoreFull
	}
	return nil
}

// releaseStored releases room that reserveStored has reserved.
func releaseStored(n int64) { storedCount.Add(-n) }

// storeDescriptor stores a descriptor with systemd, which passes it to the next process of the
// service. Room is reserved. With FDPOLL=0, systemd also keeps a connection whose peer has closed
// it: its unread bytes still have to be read.
func storeDescriptor(name string, conn syscall.Conn) error {
	if len(name) > maxStoreName {
		return fmt.Errorf(
			"the name %q is longer than the %d bytes that systemd takes; set a short one (WithSystemdName)",
			name, maxStoreName)
	}
	size := int64(len(name) + 1)
	if storedNameBytes.Add(size) > maxStoreNames {
		storedNameBytes.Add(-size)
		return fmt.Errorf(
			"the names of all descriptors together are longer than %d bytes; set a short one (WithSystemdName)",
			maxStoreNames)
	}
	err := sendState(conn, notifyStore, "FDNAME="+name, "FDPOLL=0")
	if err != nil {
		storedNameBytes.Add(-size)
	}
	return err
}

// confirmStored reports whether systemd has kept everything that was stored. It stores one more
// descriptor, the write end of a pipe. If systemd kept this one, it had room for all; otherwise it
// closes it.
func confirmStored(name string) error {
	reading, writing, err := os.Pipe()
	if err != nil {
		return err
	}
	defer reading.Close()
	err = storeDescriptor(name, writing)
	if err == nil {
		defer storedNameBytes.Add(-int64(len(name) + 1))
	}
	if err = errdefs.First(err, writing.Close()); err != nil {
		return err
	}
	if err := barrier(); err != nil {
		return err
	}
	if err := reading.SetReadDeadline(time.Now().Add(probeWait)); err != nil {
		return err
	}
	if _, err := reading.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		return errStoreFull
	}
	return errdefs.First(RemoveStored(name), barrier())
}

// probeWait is how long to wait for the EOF of a pipe that systemd may have closed.
const probeWait = 5 * time.Millisecond
