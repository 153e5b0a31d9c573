// SPDX-License-Identifier: Apache-2.0

package systemd

// This file takes the descriptors that an earlier process of the service has left with systemd
// (FileDescriptorStoreMax=, systemd.service(5)). share.go is how they are left.

import (
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// The kinds of descriptors that are stored. The name of one is storePrefix, the kind, for a listener what it
// is bound to, and whose it is: udsipc-listener.2f.1a3.b0c4-/run/app.sock, udsipc-plain-/run/app.sock.
const (
	storePrefix        = "udsipc-"
	StoreListener      = "listener"
	StoreUnread        = "fresh"   // A connection of which nothing was read.
	StorePlain         = "plain"   // One without acknowledgements.
	StoreSession       = "session" // One with; what is to be known of it is in the memory.
	StoreHandOverState = "memory"
	StoreProbe         = "probe" // Whether there is room.
)

// A Stored descriptor is one that an earlier process has left.
type Stored struct {
	Name     string
	Kind     string
	Identity ListenerIdentity // Of a listener.
	Inode    uint64           // Which socket it is, for as long as it is open anywhere.
	File     *os.File         // The holder's to close.
}

// A ListenerIdentity is what a listener is bound to: the file, if it is one, and the address as it was given.
type ListenerIdentity struct {
	Device, Inode uint64 // Of the file; 0 for none.
	Address       uint64 // Its hash.
}

// storeName is the name of what belongs to key.
func storeName(kind, key string) string { return storePrefix + kind + "-" + escapeName(key) }

// listenerKind is the kind of a listener.
func listenerKind(b ListenerIdentity) string {
	return fmt.Sprintf("%s.%x.%x.%x", StoreListener, b.Device, b.Inode, b.Address)
}

// parseStoreName takes a name apart. It says no if no Reader has given it.
func parseStoreName(name string) (kind string, to ListenerIdentity, key string, ok bool) {
	rest, ours := strings.CutPrefix(name, storePrefix)
	kind, key, found := strings.Cut(rest, "-")
	if !ours || !found {
		return "", to, "", false
	}
	switch kind {
	case StoreUnread, StorePlain, StoreSession, StoreHandOverState, StoreProbe:
		return kind, to, key, true
	}
	if n, err := fmt.Sscanf(kind, StoreListener+".%x.%x.%x", &to.Device, &to.Inode, &to.Address); n != 3 || err != nil {
		return "", to, "", false
	}
	return StoreListener, to, key, kind == listenerKind(to)
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

// RemoveStored has systemd remove everything of this name from its store.
func RemoveStored(name string) error { return sendState(nil, notifyRemove, "FDNAME="+name) }

// LoadStored returns what an earlier process has left for key. systemd still has it.
func LoadStored(key string) (list []Stored, err error) {
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
			err = errdefs.First(err, fmt.Errorf("%v: %w", passed, openErr))
			continue
		}
		taken.Name, taken.Identity = passed.name, to
		list = append(list, taken)
	}
	return list, err
}

// Listener returns the stored listener, which closes the descriptor.
func (s *Stored) Listener() (net.Listener, error) {
	defer s.File.Close()
	return net.FileListener(s.File)
}

// Conn returns the stored connection, which closes the descriptor.
func (s *Stored) Conn() (net.Conn, error) {
	defer s.File.Close()
	return net.FileConn(s.File)
}
