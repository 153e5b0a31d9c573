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
	maxStoreName  = 255       // The longest name that systemd takes (sd_notify(3), FDNAME=).
	maxStoreNames = 120 << 10 // All together: they come in one variable, of 128 KiB at most (execve(2), MAX_ARG_STRLEN).
)

// errStoreFull is why a descriptor cannot be left with systemd.
var errStoreFull = errors.New(
	"the descriptor store is full, or there is none; raise FileDescriptorStoreMax= (systemd.service(5))")

// reservedStored are for the state and for the probe.
const reservedStored = 2

// storedCount and storedNameBytes are what this process has left with systemd, which counts too but does not answer.
var storedCount, storedNameBytes atomic.Int64

// A StoreShare is what one server leaves in systemd's descriptor store.
type StoreShare struct {
	key string // Names what is left.

	mu          sync.Mutex     // Guards what follows.
	storedNames map[string]int // How many descriptors were left, by their names.
}

// NewStoreShare returns the empty share of a server with this key.
func NewStoreShare(key string) *StoreShare {
	return &StoreShare{key: key, storedNames: make(map[string]int)}
}

// Begin sets room aside for the state. It returns an error if systemd does not listen or has no room.
func (s *StoreShare) Begin() error {
	if _, err := notifyAddress(); err != nil {
		return err
	}
	return reserveStored(reservedStored)
}

// AddListener leaves a listener, if there is room.
func (s *StoreShare) AddListener(to ListenerIdentity, what syscall.Conn) error {
	return s.add(listenerKind(to), what)
}

// AddConn leaves a connection of this kind, if there is room. It returns which socket it is.
func (s *StoreShare) AddConn(kind string, what syscall.Conn) (inode uint64, err error) {
	if inode, err = inodeOf(what); err != nil {
		return 0, err
	}
	return inode, s.add(kind, what)
}

func (s *StoreShare) add(kind string, what syscall.Conn) error {
	if err := reserveStored(1); err != nil {
		return err
	}
	if err := s.store(kind, what); err != nil {
		releaseStored(1)
		return err
	}
	return nil
}

// AddState leaves what the next process is to know beside the descriptors. It has a reserved slot.
func (s *StoreShare) AddState(state []byte) error {
	file, err := newMemfd(storePrefix+StoreHandOverState, state)
	if err != nil {
		return err
	}
	defer file.Close()
	return s.store(StoreHandOverState, file)
}

// store leaves a descriptor for which there is a slot.
func (s *StoreShare) store(kind string, what syscall.Conn) error {
	name := storeName(kind, s.key)
	if err := storeDescriptor(name, what); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.storedNames[name]++
	return nil
}

// Confirm returns an error if systemd has not kept everything that was left before.
func (s *StoreShare) Confirm() error { return confirmStored(storeName(StoreProbe, s.key)) }

// RemoveAll has systemd remove what was left, the state included, and gives back the room that Begin has set aside.
func (s *StoreShare) RemoveAll() {
	s.mu.Lock()
	left := s.storedNames
	s.storedNames = make(map[string]int)
	s.mu.Unlock()
	releaseStored(reservedStored)
	for name, n := range left {
		if name != storeName(StoreHandOverState, s.key) { // That has a reserved slot.
			releaseStored(int64(n))
		}
		storedNameBytes.Add(-int64(n * (len(name) + 1)))
		_ = RemoveStored(name) // If systemd cannot be told, it knows of nothing either.
	}
}

// reserveStored sets aside room for n descriptors, as far as it is known how much there is (FDSTORE, systemd.exec(5),
// since 254).
func reserveStored(n int64) error {
	limit, err := strconv.ParseInt(os.Getenv("FDSTORE"), 10, 64)
	if storedCount.Add(n) > limit && err == nil {
		storedCount.Add(-n)
		return errStoreFull
	}
	return nil
}

// releaseStored gives back room that reserveStored has set aside.
func releaseStored(n int64) { storedCount.Add(-n) }

// storeDescriptor leaves a descriptor with systemd, which passes it to the next process of the
// service. Room for it has been set aside. FDPOLL=0: systemd is not to drop one whose peer has
// ended, because what lies in it is still to be read.
func storeDescriptor(name string, what syscall.Conn) error {
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
	err := sendState(what, notifyStore, "FDNAME="+name, "FDPOLL=0")
	if err != nil {
		storedNameBytes.Add(-size)
	}
	return err
}

// confirmStored says whether systemd has kept everything that was stored before. It leaves one
// thing more, the writing end of a pipe: if there was room for that, there was for all. One that
// systemd does not keep it closes.
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

// probeWait is how long the end of a pipe may take to be seen once it is there.
const probeWait = 5 * time.Millisecond
