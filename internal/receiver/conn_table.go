// SPDX-License-Identifier: Apache-2.0

package receiver

// This file is the table of the open connections of a server, with their limits.

import (
	"fmt"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// A connTable is the open connections of a server. The server's mutex guards it.
type connTable struct {
	max        int
	maxPerUser int

	all       map[*connection]struct{}
	rejecting int            // Connections over a limit, which are being closed.
	users     map[string]int // Number of the other connections, by user.
	lastID    uint64
	connEnded chan struct{} // One slot: a connection has ended. It needs no mutex.
}

func newConnTable(most, mostPerUser int) connTable {
	return connTable{
		max: most, maxPerUser: mostPerUser,
		all: make(map[*connection]struct{}), users: make(map[string]int), connEnded: make(chan struct{}, 1),
	}
}

// addLocked adds a connection and gives it its number. The error is the limit that it exceeds.
func (t *connTable) addLocked(c *connection) (full error) {
	t.lastID++
	c.peer.ID = t.lastID
	if full = t.fullLocked(c.user); full != nil {
		c.rejected = true
		t.rejecting++
	} else {
		t.users[c.user]++
	}
	t.all[c] = struct{}{}
	return full
}

// fullLocked returns the limit that one more connection of this user would exceed, or nil.
func (t *connTable) fullLocked(user string) error {
	switch {
	case len(t.all)-t.rejecting >= t.max:
		return fmt.Errorf("%w: %d are open (WithMaxConnections)", errdefs.ErrTooManyConnections, t.max)
	case user != "" && t.users[user] >= t.maxPerUser:
		return fmt.Errorf("%w: %d of %s are open (WithMaxConnectionsPerUser)",
			errdefs.ErrTooManyConnections, t.maxPerUser, user)
	}
	return nil
}

func (t *connTable) removeLocked(c *connection) {
	delete(t.all, c)
	if c.rejected {
		t.rejecting--
	} else if t.users[c.user]--; t.users[c.user] == 0 {
		delete(t.users, c.user)
	}
}

// signalConnEnded wakes the accept loop if it waits for the end of a connection.
func (t *connTable) signalConnEnded() {
	select {
	case t.connEnded <- struct{}{}:
	default:
	}
}
