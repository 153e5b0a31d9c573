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
	server         *server
	in             *inbound
	peer           peer
	user           string // The identity that the limit for each user counts.
	credentialsErr error  // Why the credentials could not be read.
	rejected       bool   // It is over a limit of connections.
	service        service

	// For the watchdog.
	inHandler    atomic.Bool   // A handler may be running.
	redeliveries atomic.Uint64 // How often a message was handed over again.
	progress     progressMark  // Guarded by server.mu.
}

// A service uses a connection that was admitted: a stream or a conversation.
type service interface {
	serve()                 // Runs until the connection ends.
	requestEnd()            // Ends the connection gracefully. The server's mutex is held.
	reject(why closeReason) // Closes a connection that is not authorized, and reports the reason to the peer.
	release()               // Returns the read buffer of a closed connection.
}

// newService returns what serves a connection. Nothing else depends on the mode of the server.
func (s *server) newService(c *connection, from *inheritedConn) service {
	if s.offers != nil {
		return newOfferedConn(c, s.offers)
	}
	return newStream(c, from)
}

// admit begins to serve conn, which is new or was inherited from an earlier process (left). A connection over a limit is
// closed gracefully: what its peer has sent before that is handled.
func (s *server) admit(conn net.Conn, left *inheritedConn) {
	from := peer{Addr: conn.RemoteAddr()}
	var unknown error
	from.Credentials, unknown = readCredentials(conn)
	if s.cfg.tls != nil {
		conn = newTLSServer(conn, s.cfg.tls)
	}
	limits := s.cfg.in
	limits.inherited = left != nil && left.kind != storeUnread
	c := &connection{server: s, in: newInbound(conn, limits, s.cfg.readMemory), peer: from, user: from.identity(), credentialsErr: unknown}
	s.counts.accepted.Add(1)
	c.service = s.newService(c, left)
	s.mu.Lock()
	full := s.conns.addLocked(c)
	if c.rejected || s.closing {
		c.service.requestEnd()
	}
	if s.forced {
		c.in.halt() // As force has done to the others.
	}
	s.wg.Add(1)
	s.mu.Unlock()

	if full != nil {
		s.counts.refused.Add(1)
		s.reportAccept(c.addrText(), full)
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
		s.report(opHandOver, c.addrText(), why)
	}
	s.store.signalPaused()
	s.conns.signalConnEnded()
	s.wg.Done()
}

// addrText names the connection in errors.
func (c *connection) addrText() string {
	return c.server.cfg.addrText + ", " + c.peer.String()
}

// authenticate makes the TLS handshake and asks the authorizer, before anything of the peer is looked at.
func (c *connection) authenticate() bool {
	s := c.server
	if err := c.in.tlsHandshake(s.forceCtx, s.cfg.handshakeTimeout, &c.peer); err != nil {
		s.counts.handshakeErrors.Add(1)
		s.report(opHandshake, c.addrText(), err)
		if c.in.mayBePlain(err) {
			c.service.reject(closeNotTLS)
		}
		return false
	}
	c.in.setUser(c.peer.identity())
	if s.cfg.authorizer == nil {
		return true
	}
	err := c.credentialsErr
	if err != nil {
		err = fmt.Errorf("%w: who it is cannot be told: %w", errUnauthorized, err)
	} else {
		err = authorize(s.cfg.authorizer, &c.peer)
	}
	if err != nil {
		s.counts.unauthorized.Add(1)
		s.report(opAuthorize, c.addrText(), err)
		c.service.reject(closeUnauthorized)
		return false
	}
	return true
}
