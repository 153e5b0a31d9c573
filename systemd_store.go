// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file leaves descriptors with systemd and takes those that an earlier process of the service has
// left (FileDescriptorStoreMax=, systemd.service(5)). What they mean is in handover.go.

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// The kinds of descriptors that are stored. The name of one is storePrefix, the kind, for a listener what it
// is bound to, and whose it is: udsipc-listener.2f.1a3.b0c4-/run/app.sock, udsipc-plain-/run/app.sock.
const (
	storePrefix   = "udsipc-"
	storeListener = "listener"
	storeFresh    = "fresh"   // A connection of which nothing was read.
	storePlain    = "plain"   // One without acknowledgements.
	storeSession  = "session" // One with; what is to be known of it is in the memory.
	storeMemory   = "memory"
	storeProbe    = "probe" // Whether there is room.
)

const (
	maxStoreName  = 255       // The longest name that systemd takes (sd_notify(3), FDNAME=).
	maxStoreNames = 120 << 10 // All together: they come in one variable, of 128 KiB at most (execve(2), MAX_ARG_STRLEN).
)

// errStoreFull is why a descriptor cannot be left with systemd.
var errStoreFull = errors.New("the descriptor store is full, or there is none; raise FileDescriptorStoreMax= (systemd.service(5))")

// A stored descriptor is one that an earlier process has left.
type stored struct {
	name  string
	kind  string
	bound bound    // Of a listener.
	inode uint64   // Which socket it is, for as long as it is open anywhere.
	file  *os.File // The holder's to close.
}

// A bound is what a listener is bound to: the file, if it is one, and the address as it was given.
type bound struct {
	device, inode uint64 // Of the file; 0 for none.
	address       uint64 // Its hash.
}

// slots and slotNames are what this process has left with systemd, which counts too but does not answer.
var slots, slotNames atomic.Int64

// takeSlots sets aside room for n descriptors, as far as it is known how much there is (FDSTORE, systemd.exec(5),
// since 254).
func takeSlots(n int64) error {
	limit, err := strconv.ParseInt(os.Getenv("FDSTORE"), 10, 64)
	if slots.Add(n) > limit && err == nil {
		slots.Add(-n)
		return errStoreFull
	}
	return nil
}

// storeName is the name of what belongs to key.
func storeName(kind, key string) string { return storePrefix + kind + "-" + escapeName(key) }

// listenerKind is the kind of a listener.
func listenerKind(b bound) string {
	return fmt.Sprintf("%s.%x.%x.%x", storeListener, b.device, b.inode, b.address)
}

// parseStoreName takes a name apart. It says no if no Reader has given it.
func parseStoreName(name string) (kind string, to bound, key string, ok bool) {
	rest, ours := strings.CutPrefix(name, storePrefix)
	kind, key, found := strings.Cut(rest, "-")
	if !ours || !found {
		return "", to, "", false
	}
	switch kind {
	case storeFresh, storePlain, storeSession, storeMemory, storeProbe:
		return kind, to, key, true
	}
	if n, err := fmt.Sscanf(kind, storeListener+".%x.%x.%x", &to.device, &to.inode, &to.address); n != 3 || err != nil {
		return "", to, "", false
	}
	return storeListener, to, key, kind == listenerKind(to)
}

// escapeName makes a name of what systemd takes: printable ASCII without a colon.
func escapeName(text string) string {
	var name strings.Builder
	for i := range len(text) {
		if b := text[i]; b > ' ' && b <= '~' && b != ':' && b != '%' {
			name.WriteByte(b)
		} else {
			fmt.Fprintf(&name, "%%%02x", b)
		}
	}
	return name.String()
}

// freeSlots gives back room that takeSlots has set aside.
func freeSlots(n int64) { slots.Add(-n) }

// removeStored has systemd remove everything of this name from its store.
func removeStored(name string) error { return notify(nil, notifyRemove, "FDNAME="+name) }

// unstore is removeStored for n descriptors that this process has stored.
func unstore(name string, n int64) error {
	slotNames.Add(-n * int64(len(name)+1))
	return removeStored(name)
}

// storeMemoryFile stores data, which takes one slot.
func storeMemoryFile(name string, data []byte) error {
	file, err := memoryFile(storePrefix+storeMemory, data)
	if err != nil {
		return err
	}
	defer file.Close()
	return store(name, file)
}

// store leaves a descriptor with systemd, which passes it to the next process of the service. Room for it has been set
// aside. FDPOLL=0: systemd is not to drop one whose peer has ended, because what lies in it is still to be read.
func store(name string, what syscall.Conn) error {
	if len(name) > maxStoreName {
		return fmt.Errorf("the name %q is longer than the %d bytes that systemd takes; set a short one (WithSystemdName)", name, maxStoreName)
	}
	size := int64(len(name) + 1)
	if slotNames.Add(size) > maxStoreNames {
		slotNames.Add(-size)
		return fmt.Errorf("the names of all descriptors together are longer than %d bytes; set a short one (WithSystemdName)", maxStoreNames)
	}
	err := notify(what, notifyStore, "FDNAME="+name, "FDPOLL=0")
	if err != nil {
		slotNames.Add(-size)
	}
	return err
}

// probeStore says whether systemd has kept everything that was stored before. It leaves one thing more, the writing end of a
// pipe: if there was room for that, there was for all. One that systemd does not keep it closes.
func probeStore(name string) error {
	reading, writing, err := os.Pipe()
	if err != nil {
		return err
	}
	defer reading.Close()
	err = store(name, writing)
	if err == nil {
		defer slotNames.Add(-int64(len(name) + 1))
	}
	if err = firstError(err, writing.Close()); err != nil {
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
	return firstError(removeStored(name), barrier())
}

// probeWait is how long the end of a pipe may take to be seen once it is there.
const probeWait = 5 * time.Millisecond

// takeStored returns what an earlier process has left for key. systemd still has it.
func takeStored(key string) (list []stored, err error) {
	passedSockets.mu.Lock()
	defer passedSockets.mu.Unlock()
	if err := loadPassedLocked(); err != nil {
		return nil, err
	}
	for _, passed := range passedSockets.list {
		kind, to, whose, ok := parseStoreName(passed.name)
		if !ok || whose != escapeName(key) || passed.taken {
			continue
		}
		taken, openErr := openStored(kind, passed)
		if openErr != nil {
			err = firstError(err, fmt.Errorf("%v: %w", passed, openErr))
			continue
		}
		taken.name, taken.bound = passed.name, to
		list = append(list, taken)
	}
	return list, err
}

// listener returns the stored listener, which closes the descriptor.
func (s *stored) listener() (net.Listener, error) {
	defer s.file.Close()
	return net.FileListener(s.file)
}

// conn returns the stored connection, which closes the descriptor.
func (s *stored) conn() (net.Conn, error) {
	defer s.file.Close()
	return net.FileConn(s.file)
}
