// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is who is at the other end of a connection, and what may be asked of it.

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"github.com/udsipc/udsipc/internal/peercred"
	"github.com/udsipc/udsipc/internal/transport"
)

// A Peer is the other end of a connection.
type Peer struct {
	ID          uint64               // The connection's number in its Reader or Writer, counting from 1.
	Addr        net.Addr             // Its address; for a Unix socket usually without a name.
	Credentials *Credentials         // Who it is on this machine; nil if the transport or the system cannot tell.
	TLS         *tls.ConnectionState // With WithTLS, after the handshake; else nil.
}

// Credentials are those of the process at the other end of a Unix socket, as recorded by the
// kernel: of the process that called connect, at that time, or of the process that called listen.
// They do not change when the process changes its own (setuid(2)) or passes its descriptor on.
// Under socket activation, systemd calls listen, so a Writer sees PID 1 and root.
//
// IDs are translated to the namespaces of this process. An ID without a mapping is 65534, a PID
// without one is 0. PIDs are reused: do not authorize by PID. Sources: SO_PEERCRED and
// SO_PEERGROUPS, unix(7) and user_namespaces(7) on Linux; LOCAL_PEERCRED, unix(4), on Darwin and
// FreeBSD.
type Credentials struct {
	UID    int   `json:"uid"`
	GID    int   `json:"gid"`
	PID    int   `json:"pid"`              // 0 if the system does not tell.
	Groups []int `json:"groups,omitempty"` // Supplementary groups, where the system tells.
}

// String returns the numbers, for logs.
func (c *Credentials) String() string {
	return (*peercred.Credentials)(c).String()
}

// String returns the peer's number and, where it has them, its address and its credentials.
func (p Peer) String() string {
	inner := transport.Peer{ID: p.ID, Addr: p.Addr, Credentials: (*peercred.Credentials)(p.Credentials), TLS: p.TLS}
	return inner.String()
}

// publicPeer returns p as a program sees it.
func publicPeer(p *transport.Peer) Peer {
	return Peer{ID: p.ID, Addr: p.Addr, Credentials: (*Credentials)(p.Credentials), TLS: p.TLS}
}

// authorizePeer returns authorizer as connections call it; nil for nil.
func authorizePeer(authorizer func(Peer) error) func(*transport.Peer) error {
	if authorizer == nil {
		return nil
	}
	return func(p *transport.Peer) error { return authorizer(publicPeer(p)) }
}

// errNoCredentials is what the ready-made authorizers say where the kernel names nobody.
var errNoCredentials = errors.New("its transport does not tell who it is")

// AllowUIDs returns an authorizer that accepts peers of these users.
func AllowUIDs(uids ...int) func(Peer) error {
	uids = slices.Clone(uids)
	return func(p Peer) error {
		switch {
		case p.Credentials == nil:
			return errNoCredentials
		case !slices.Contains(uids, p.Credentials.UID):
			return fmt.Errorf("uid %d is not one of %v", p.Credentials.UID, uids)
		}
		return nil
	}
}

// AllowGIDs returns an authorizer that accepts peers of one of these groups: as their group, or, if
// the system reports them, as a supplementary group.
func AllowGIDs(gids ...int) func(Peer) error {
	gids = slices.Clone(gids)
	return func(p Peer) error {
		if p.Credentials == nil {
			return errNoCredentials
		}
		for _, gid := range append([]int{p.Credentials.GID}, p.Credentials.Groups...) {
			if slices.Contains(gids, gid) {
				return nil
			}
		}
		return fmt.Errorf("none of its groups %d and %v is one of %v", p.Credentials.GID, p.Credentials.Groups, gids)
	}
}

// SameUser returns an authorizer that accepts peers of this process's user: the effective user ID
// at each connection.
func SameUser() func(Peer) error {
	return func(p Peer) error { return AllowUIDs(os.Geteuid())(p) }
}

// AllOf returns an authorizer that accepts peers that all of these accept, and otherwise returns
// the first error. Without authorizers it accepts every peer.
func AllOf(authorizers ...func(Peer) error) func(Peer) error {
	authorizers = slices.Clone(authorizers)
	return func(p Peer) error {
		for _, authorize := range authorizers {
			if err := authorize(p); err != nil {
				return err
			}
		}
		return nil
	}
}

// AnyOf returns an authorizer that accepts peers that at least one of these accepts, and otherwise
// returns all errors. Without authorizers it accepts no peer.
func AnyOf(authorizers ...func(Peer) error) func(Peer) error {
	authorizers = slices.Clone(authorizers)
	return func(p Peer) error {
		errs := make([]error, 0, len(authorizers)+1)
		for _, authorize := range authorizers {
			err := authorize(p)
			if err == nil {
				return nil
			}
			errs = append(errs, err)
		}
		return errors.Join(append(errs, errors.New("no authorizer takes it"))...)
	}
}
