// SPDX-License-Identifier: Apache-2.0

package systemd

// This file loads the descriptors that an earlier process of the service stored with systemd
// (FileDescriptorStoreMax=, systemd.service(5)). share.go stores them.

import (
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// The kinds of stored descriptors. A name has storePrefix, the kind, for a listener its identity,
// and the key: udsipc-listener.2f.1a3.b0c4-/run/app.sock, udsipc-plain-/run/app.sock.
const (
	storePrefix        = "udsipc-"
	StoreListener      = "listener"
	StoreUnread        = "fresh"   // A connection from which nothing was read.
	StorePlain         = "plain"   // A connection without acknowledgements.
	StoreSession       = "session" // A session; its state is in the hand-over state.
	StoreHandOverState = "memory"
	StoreProbe         = "probe" // The probe of confirmStored.
)

// A Stored is a descriptor that an earlier process stored.
type Stored struct {
	Name     string
	Kind     string
	Identity ListenerIdentity // Of a listener.
	Inode    uint64           // Identifies the socket while it is open anywhere.
	File     *os.File         // Closed by the holder of the Stored.
}

// A ListenerIdentity identifies what a listener is bound to: the socket file, if there is one, and
// the address as configured.
type ListenerIdentity struct {
	Device, Inode uint64 // Of the file; 0: none.
	Address       uint64 // The hash of the address.
}

// storeName returns the name of a stored descriptor.
func storeName(kind, key string) string { return storePrefix + kind + "-" + escapeName(key) }

// listenerKind returns the kind of a listener with this identity.
func listenerKind(b ListenerIdentity) string {
	return fmt.Sprintf("%s.%x.%x.%x", StoreListener, b.Device, b.Inode, b.Address)
}

// parseStoreName parses a name. ok is false if no Reader has made the name.
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

// escapeName escapes text for systemd: printable ASCII without a colon.
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

// RemoveStored removes all descriptors with this name from the store.
func RemoveStored(name string) error { return sendState(nil, notifyRemove, "FDNAME="+name) }

// LoadStored returns the descriptors that an earlier process stored for key. They also stay in the
// store.
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

// Listener returns the stored listener and closes the descriptor.
func (s *Stored) Listener() (net.Listener, error) {
	defer s.File.Close()
	return net.FileListener(s.File)
}

// Conn returns the stored connection and closes the descriptor.
func (s *Stored) Conn() (net.Conn, error) {
	defer s.File.Close()
	return net.FileConn(s.File)
}
