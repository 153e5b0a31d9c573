// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is who is at the other end of a connection.

import (
	"net"
	"strconv"
)

// A Peer is the other end of a connection.
type Peer struct {
	ID   uint64   // The connection's number in its Reader, counting from 1.
	Addr net.Addr // Its address; for a Unix socket usually without a name.
}

// String returns the peer's number and, where it has one, its address.
func (p Peer) String() string {
	text := "connection " + strconv.FormatUint(p.ID, 10)
	if p.Addr != nil && p.Addr.String() != "" && p.Addr.String() != "@" {
		text += " from " + p.Addr.String()
	}
	return text
}
