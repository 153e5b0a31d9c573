// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the beginning and the end of each connection of a server: it is admitted, its peer is
// authenticated, and it is removed. In between a stream (serve.go) or a conversation (offer.go) serves it.

import (
	"fmt"
	"net"
	"sync/atomic"
)

// A connection is one of a server.
type connection struct {
	server  *server
	in      *inbound
	peer    peer
	user    string // The identity that the limit for each user counts.
	unknown error  // Why the credentials could not be read.
	refused bool   // It is over a limit of connections.
	service service

	// For the watchdog.
	handling atomic.Bool   // A handler may be running.
	offers   atomic.Uint64 // How often a message was handed over again.
	pulse    pulse         // Guarded by server.mu.
}

// A service uses a connection that was admitted: a stream or a conversation.
type service interface {
	serve()               // Runs until the connection ends.
	requestEnd()          // Ends the connection gracefully. The server's mutex is held.
	reject(why endReason) // Closes a connection that is not authorized, and reports the reason to the peer.
	release()             // Returns the read buffer of a closed connection.
}

// newService returns what serves a connection. Nothing else depends on the mode of the server.
func (s *server) newService(c *connection, from *legacyConn) service {
	if s.offers != nil {
		return newConversation(c, s.offers)
	}
	return newStream(c, from)
}

// admit begins to serve conn, which is new or was inherited from an earlier process (left). A connection over a limit is
// closed gracefully: what its peer has sent before that is handled.
func (s *server) admit(conn net.Conn, left *legacyConn) {
	from := peer{Addr: conn.RemoteAddr()}
	var unknown error
	from.Credentials, unknown = identify(conn)
	if s.cfg.tls != nil {
		conn = newTLSServer(conn, s.cfg.tls)
	}
	limits := s.cfg.in
	limits.inherited = left != nil && left.kind != storeFresh
	c := &connection{server: s, in: newInbound(conn, limits, s.cfg.memory), peer: from, user: from.identity(), unknown: unknown}
	s.counts.accepted.Add(1)
	c.service = s.newService(c, left)
	s.mu.Lock()
	full := s.conns.addLocked(c)
	if c.refused || s.closing {
		c.service.requestEnd()
	}
	if s.forced {
		c.in.halt() // As force has done to the others.
	}
	s.wg.Add(1)
	s.mu.Unlock()

	if full != nil {
		s.counts.refused.Add(1)
		s.reportAccept(c.where(), full)
	}
	go c.service.serve() // Ends with the connection; finish waits for it.
}

// remove ends a connection.
func (s *server) remove(c *connection) {
	c.in.close()
	c.service.release()
	s.mu.Lock()
	s.conns.removeLocked(c)
	s.counts.read.add(c.in.counted())
	handingOver := s.handingOver
	s.mu.Unlock()
	if why := c.in.handOverError(); handingOver && why != nil {
		s.report(opHandOver, c.where(), why)
	}
	s.store.signalRest()
	s.conns.signalRoom()
	s.wg.Done()
}

// where names the connection in errors.
func (c *connection) where() string {
	return c.server.cfg.where + ", " + c.peer.String()
}

// verify makes the TLS handshake and asks the authorizer, before anything of the peer is looked at.
func (c *connection) verify() bool {
	s := c.server
	if err := c.in.handshake(s.handling, s.cfg.handshakeTimeout, &c.peer); err != nil {
		s.counts.handshakeErrors.Add(1)
		s.report(opHandshake, c.where(), err)
		if c.in.mayBePlain(err) {
			c.service.reject(endNotTLS)
		}
		return false
	}
	c.in.identifiedAs(c.peer.identity())
	if s.cfg.authorizer == nil {
		return true
	}
	err := c.unknown
	if err != nil {
		err = fmt.Errorf("%w: who it is cannot be told: %w", errUnauthorized, err)
	} else {
		err = permit(s.cfg.authorizer, &c.peer)
	}
	if err != nil {
		s.counts.unauthorized.Add(1)
		s.report(opAuthorize, c.where(), err)
		c.service.reject(endUnauthorized)
		return false
	}
	return true
}
