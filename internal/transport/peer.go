// SPDX-License-Identifier: Apache-2.0

package transport

// This file has the peer of a connection.

import (
	"crypto/sha256"
	"crypto/tls"
	"net"
	"strconv"
	"strings"

	"github.com/udsipc/udsipc/internal/peercred"
)

// A Peer is the other end of a connection.
type Peer struct {
	ID          uint64                // The number of the connection at this end, counting from 1.
	Addr        net.Addr              // Its address; for a Unix socket usually without a name.
	Credentials *peercred.Credentials // nil if the transport or the system cannot tell.
	TLS         *tls.ConnectionState  // After a TLS handshake; else nil.
}

// String returns the peer's number and, where it has them, its address and its credentials. A peer
// chooses the name of its socket: one that could be taken for more than a name is quoted.
func (p *Peer) String() string {
	text := "connection " + strconv.FormatUint(p.ID, 10)
	if p.Addr != nil && p.Addr.String() != "" && p.Addr.String() != "@" {
		text += " from " + quoted(p.Addr.String())
	}
	if p.Credentials != nil {
		text += " (" + p.Credentials.String() + ")"
	}
	return text
}

// quoted returns name, quoted if it has anything but printable characters, or what ends a name here.
func quoted(name string) string {
	if text := strconv.Quote(name); len(text) > len(name)+2 || strings.ContainsAny(name, " (),") {
		return text
	}
	return name
}

// Identity returns the identity of the peer: its user, or the key of its certificate. It is empty
// if nothing is known.
func (p *Peer) Identity() string {
	switch {
	case p.TLS != nil && len(p.TLS.PeerCertificates) > 0:
		key := sha256.Sum256(p.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo)
		return "key " + string(key[:])
	case p.Credentials != nil:
		return "uid " + strconv.Itoa(p.Credentials.UID)
	}
	return ""
}
