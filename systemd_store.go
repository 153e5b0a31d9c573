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
)

// The kinds of descriptors that are stored. A name is storePrefix, the kind, and whose it is.
const (
	storePrefix   = "udsipc-"
	storeListener = "listener-"
	storeFresh    = "fresh-"   // A connection of which nothing was read.
	storePlain    = "plain-"   // One without acknowledgements.
	storeSession  = "session-" // One with; what is to be known of it is in the memory.
	storeMemory   = "memory-"
)

var storeKinds = []string{storeListener, storeFresh, storePlain, storeSession, storeMemory}

// maxStoreName is the longest name that systemd takes (sd_notify(3), FDNAME=).
const maxStoreName = 255

// errStoreFull is why a descriptor cannot be left with systemd.
var errStoreFull = errors.New("the descriptor store is full; raise FileDescriptorStoreMax= (systemd.service(5))")

// A stored descriptor is one that an earlier process has left.
type stored struct {
	kind  string
	inode uint64   // Which socket it is, for as long as it is open anywhere.
	file  *os.File // The holder's to close.
}

// stores counts what this process has left with systemd, which counts too but does not answer.
var stores atomic.Int64

// storeName is the name of what belongs to key. systemd takes printable ASCII without a colon.
func storeName(kind, key string) string {
	var name strings.Builder
	name.WriteString(storePrefix + kind)
	for i := range len(key) {
		if b := key[i]; b > ' ' && b <= '~' && b != ':' && b != '%' {
			name.WriteByte(b)
		} else {
			fmt.Fprintf(&name, "%%%02x", b)
		}
	}
	return name.String()
}

// store leaves a descriptor with systemd, which passes it to the next process of the service.
// FDPOLL=0: systemd is not to drop one whose peer has ended, because what lies in it is still to be read.
func store(kind, key string, what descriptor) error {
	name := storeName(kind, key)
	if len(name) > maxStoreName {
		return fmt.Errorf("the name %q is longer than the %d bytes that systemd takes; set a short one (WithSystemdName)", name, maxStoreName)
	}
	if limit, ok := storeLimit(); ok && stores.Load() >= int64(limit) {
		return errStoreFull
	}
	if err := notify(what, notifyStore, "FDNAME="+name, "FDPOLL=0"); err != nil {
		return err
	}
	stores.Add(1)
	return nil
}

// storeLimit is how many descriptors systemd keeps for this service, if it says so (FDSTORE,
// systemd.exec(5), since 254).
func storeLimit() (limit int, ok bool) {
	limit, err := strconv.Atoi(os.Getenv("FDSTORE"))
	return limit, err == nil
}

// takeStored returns what an earlier process has left for key, and has systemd forget it.
func takeStored(key string) ([]stored, error) {
	passedSockets.mu.Lock()
	defer passedSockets.mu.Unlock()
	if err := loadPassedLocked(); err != nil {
		return nil, err
	}
	var list []stored
	var failed error
	for _, kind := range storeKinds {
		name, found := storeName(kind, key), false
		for _, passed := range passedSockets.list {
			if passed.name != name || passed.taken {
				continue
			}
			taken, err := openStored(kind, passed)
			found = true
			if err != nil {
				failed = firstError(failed, fmt.Errorf("%v: %w", passed, err))
				continue
			}
			list = append(list, taken)
		}
		if found {
			failed = firstError(failed, notify(nil, notifyRemove, "FDNAME="+name))
		}
	}
	return list, failed
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
