// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file takes the descriptors that an earlier process of the service has left with systemd
// (FileDescriptorStoreMax=, systemd.service(5)). systemd_share.go is how they are left.

import (
	"fmt"
	"net"
	"os"
	"strings"
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

// removeStored has systemd remove everything of this name from its store.
func removeStored(name string) error { return sendState(nil, notifyRemove, "FDNAME="+name) }

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
