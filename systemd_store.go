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
	storePrefix        = "udsipc-"
	storeListener      = "listener"
	storeUnread        = "fresh"   // A connection of which nothing was read.
	storePlain         = "plain"   // One without acknowledgements.
	storeSession       = "session" // One with; what is to be known of it is in the memory.
	storeHandOverState = "memory"
	storeProbe         = "probe" // Whether there is room.
)

// A storedDescriptor descriptor is one that an earlier process has left.
type storedDescriptor struct {
	name     string
	kind     string
	identity listenerIdentity // Of a listener.
	inode    uint64           // Which socket it is, for as long as it is open anywhere.
	file     *os.File         // The holder's to close.
}

// A listenerIdentity is what a listener is bound to: the file, if it is one, and the address as it was given.
type listenerIdentity struct {
	device, inode uint64 // Of the file; 0 for none.
	address       uint64 // Its hash.
}

// storeName is the name of what belongs to key.
func storeName(kind, key string) string { return storePrefix + kind + "-" + escapeName(key) }

// listenerKind is the kind of a listener.
func listenerKind(b listenerIdentity) string {
	return fmt.Sprintf("%s.%x.%x.%x", storeListener, b.device, b.inode, b.address)
}

// parseStoreName takes a name apart. It says no if no Reader has given it.
func parseStoreName(name string) (kind string, to listenerIdentity, key string, ok bool) {
	rest, ours := strings.CutPrefix(name, storePrefix)
	kind, key, found := strings.Cut(rest, "-")
	if !ours || !found {
		return "", to, "", false
	}
	switch kind {
	case storeUnread, storePlain, storeSession, storeHandOverState, storeProbe:
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

// loadStored returns what an earlier process has left for key. systemd still has it.
func loadStored(key string) (list []storedDescriptor, err error) {
	passedSockets.mu.Lock()
	defer passedSockets.mu.Unlock()
	if err := loadPassedLocked(); err != nil {
		return nil, err
	}
	for _, passed := range passedSockets.list {
		kind, to, whose, ok := parseStoreName(passed.name)
		if !ok || whose != escapeName(key) || passed.inUse {
			continue
		}
		taken, openErr := openStored(kind, passed)
		if openErr != nil {
			err = firstError(err, fmt.Errorf("%v: %w", passed, openErr))
			continue
		}
		taken.name, taken.identity = passed.name, to
		list = append(list, taken)
	}
	return list, err
}

// listener returns the stored listener, which closes the descriptor.
func (s *storedDescriptor) listener() (net.Listener, error) {
	defer s.file.Close()
	return net.FileListener(s.file)
}

// conn returns the stored connection, which closes the descriptor.
func (s *storedDescriptor) conn() (net.Conn, error) {
	defer s.file.Close()
	return net.FileConn(s.file)
}
