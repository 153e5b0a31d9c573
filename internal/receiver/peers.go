// SPDX-License-Identifier: Apache-2.0

package receiver

// This file lists the open connections of a server.

import (
	"cmp"
	"net"
	"slices"

	"github.com/udsipc/udsipc/internal/peercred"
	"github.com/udsipc/udsipc/internal/transport"
)

// A ConnPeer is an open connection: the peer and what has come from it.
type ConnPeer struct {
	ID          uint64
	Addr        net.Addr              // nil: it has none.
	Credentials *peercred.Credentials // nil if the transport or the system cannot tell.
	transport.ReadCounts
}

// Peers returns the open connections from which most messages have come, at most limit, and the number of the others.
func (s *Server) Peers(limit int) (peers []ConnPeer, more int) {
	s.mu.Lock()
	peers = make([]ConnPeer, 0, len(s.conns.all))
	for c := range s.conns.all { // As little as possible: nobody connects meanwhile.
		peers = append(peers, ConnPeer{
			ID: c.peer.ID, Addr: c.peer.Addr, Credentials: c.peer.Credentials, ReadCounts: c.in.Counted(),
		})
	}
	s.mu.Unlock()
	slices.SortFunc(peers, func(a, b ConnPeer) int {
		return cmp.Or(cmp.Compare(b.Received, a.Received), cmp.Compare(a.ID, b.ID))
	})
	more = max(0, len(peers)-limit)
	return peers[:len(peers)-more], more
}
