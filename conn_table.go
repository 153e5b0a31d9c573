// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the connections of a server: who is let in, and how many.

import "fmt"

// A connTable is the open connections of a server. The server's mutex guards it.
type connTable struct {
	max        int
	maxPerUser int

	all      map[*connection]struct{}
	refusing int            // How many of all are being refused.
	users    map[string]int // How many of the others each user has.
	lastID   uint64
	room     chan struct{} // One slot: a connection ended. Needs no mutex.
}

func newConnTable(most, mostPerUser int) connTable {
	return connTable{
		max: most, maxPerUser: mostPerUser,
		all: make(map[*connection]struct{}), users: make(map[string]int), room: make(chan struct{}, 1),
	}
}

// addLocked numbers a connection, and returns why it is to be refused, or nil.
func (t *connTable) addLocked(c *connection) (full error) {
	t.lastID++
	c.peer.ID = t.lastID
	if full = t.fullLocked(c.user); full != nil {
		c.refused = true
		t.refusing++
	} else {
		t.users[c.user]++
	}
	t.all[c] = struct{}{}
	return full
}

// fullLocked says why there is no room for one more connection of this user.
func (t *connTable) fullLocked(user string) error {
	switch {
	case len(t.all)-t.refusing >= t.max:
		return fmt.Errorf("%w: %d are open (WithMaxConnections)", errTooManyConnections, t.max)
	case user != "" && t.users[user] >= t.maxPerUser:
		return fmt.Errorf("%w: %d of %s are open (WithMaxConnectionsPerUser)", errTooManyConnections, t.maxPerUser, user)
	}
	return nil
}

func (t *connTable) removeLocked(c *connection) {
	delete(t.all, c)
	if c.refused {
		t.refusing--
	} else if t.users[c.user]--; t.users[c.user] == 0 {
		delete(t.users, c.user)
	}
}

// signalRoom says that a connection has ended.
func (t *connTable) signalRoom() {
	select {
	case t.room <- struct{}{}:
	default:
	}
}
