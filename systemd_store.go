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

// The kinds of descriptors that are stored. The name of one is storePrefix, the kind, for a listener which file it
// is bound to, and whose it is: udsipc-listener.2f.1a3-/run/app.sock, udsipc-plain-/run/app.sock.
const (
	storePrefix   = "udsipc-"
	storeListener = "listener"
	storeFresh    = "fresh"   // A connection of which nothing was read.
	storePlain    = "plain"   // One without acknowledgements.
	storeSession  = "session" // One with; what is to be known of it is in the memory.
	storeMemory   = "memory"
)

// maxStoreName is the longest name that systemd takes (sd_notify(3), FDNAME=).
const maxStoreName = 255

// errStoreFull is why a descriptor cannot be left with systemd.
var errStoreFull = errors.New("the descriptor store is full; raise FileDescriptorStoreMax= (systemd.service(5))")

// A stored descriptor is one that an earlier process has left.
type stored struct {
	kind  string
	bound fileIdentity // Of a listener: the file that it is bound to.
	inode uint64       // Which socket it is, for as long as it is open anywhere.
	file  *os.File     // The holder's to close.
}

// stores counts what this process has left with systemd, which counts too but does not answer.
var stores atomic.Int64

// storeName is the name of what belongs to key.
func storeName(kind, key string) string { return storePrefix + kind + "-" + escapeName(key) }

// listenerKind is the kind of a listener that is bound to a file.
func listenerKind(bound fileIdentity) string {
	return fmt.Sprintf("%s.%x.%x", storeListener, bound.device, bound.inode)
}

// parseStoreName takes a name apart. It says no if that is not key's.
func parseStoreName(name, key string) (kind string, bound fileIdentity, ok bool) {
	rest, ours := strings.CutPrefix(name, storePrefix)
	kind, whose, found := strings.Cut(rest, "-")
	if !ours || !found || whose != escapeName(key) {
		return "", bound, false
	}
	switch kind {
	case storeFresh, storePlain, storeSession, storeMemory:
		return kind, bound, true
	}
	if n, err := fmt.Sscanf(kind, storeListener+".%x.%x", &bound.device, &bound.inode); n != 2 || err != nil {
		return "", bound, false
	}
	return storeListener, bound, kind == listenerKind(bound)
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
	forgotten := map[string]bool{}
	for _, passed := range passedSockets.list {
		kind, bound, ok := parseStoreName(passed.name, key)
		if !ok || passed.taken {
			continue
		}
		taken, err := openStored(kind, passed)
		if err != nil {
			failed = firstError(failed, fmt.Errorf("%v: %w", passed, err))
		} else {
			taken.bound = bound
			list = append(list, taken)
		}
		if !forgotten[passed.name] {
			forgotten[passed.name] = true
			failed = firstError(failed, notify(nil, notifyRemove, "FDNAME="+passed.name))
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
