// SPDX-License-Identifier: Apache-2.0

package receiver

// This file admits each connection of a server, authenticates its peer, and removes it at its end.
// In between, a stream (stream.go) or an offer to the program (offer.go) serves it.

import (
	"fmt"
	"net"
	"sync/atomic"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/systemd"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// A connection is one of a server.
type connection struct {
	server         *Server
	in             *transport.In
	peer           transport.Peer
	user           string // The identity that the limit for each user counts.
	credentialsErr error  // Why the credentials could not be read.
	rejected       bool   // The number of connections is over a limit.
	service        service

	// For the watchdog.
	inHandler    atomic.Bool   // A handler may be running.
	redeliveries atomic.Uint64 // Number of redeliveries.
	progress     progressMark  // Guarded by server.mu.
}

// A service serves an admitted connection: as a stream, or offered to the program.
type service interface {
	serve()                      // Runs until the connection ends.
	requestEnd()                 // Ends the connection gracefully. The server's mutex is held.
	reject(why wire.CloseReason) // Closes a connection that is not authorized, and reports the reason to the peer.
	release()                    // Returns the read buffer of a closed connection.
}

// newService returns the service of a connection. Only this function depends on the mode of the
// server.
func (s *Server) newService(c *connection, from *inheritedConn) service {
	if s.offers != nil {
		return newOfferedConn(c, s.offers)
	}
	return newStream(c, from)
}

// admit starts to serve conn, which is new or inherited from an earlier process (left). A
// connection over a limit is closed gracefully: messages that its peer has sent are handled.
func (s *Server) admit(conn net.Conn, left *inheritedConn) {
	from := transport.Peer{Addr: conn.RemoteAddr()}
	var unknown error
	from.Credentials, unknown = transport.ReadCredentials(conn)
	if s.cfg.TLS != nil {
		conn = transport.NewTLSServer(conn, s.cfg.TLS)
	}
	limits := s.cfg.In
	limits.Inherited = left != nil && left.kind != systemd.StoreUnread
	c := &connection{
		server: s, in: transport.NewIn(conn, limits, s.cfg.ReadMemory), peer: from,
		user: from.Identity(), credentialsErr: unknown,
	}
	s.counts.accepted.Add(1)
	c.service = s.newService(c, left)
	s.mu.Lock()
	full := s.conns.addLocked(c)
	if c.rejected || s.closing {
		c.service.requestEnd()
	}
	if s.forced {
		c.in.Halt() // As forceClose has done to the others.
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
func (s *Server) remove(c *connection) {
	c.in.Close()
	c.service.release()
	s.mu.Lock()
	s.conns.removeLocked(c)
	s.counts.read.Add(c.in.Counted())
	handingOver := s.handingOver
	s.mu.Unlock()
	if why := c.in.HandOverError(); handingOver && why != nil {
		s.Report(errdefs.OpHandOver, c.addrText(), why)
	}
	s.store.signalPaused()
	s.conns.signalConnEnded()
	s.wg.Done()
}

// addrText names the connection in errors.
func (c *connection) addrText() string {
	return c.server.cfg.AddrText + ", " + c.peer.String()
}

// authenticate makes the TLS handshake and calls the authorizer, before any message byte is read.
func (c *connection) authenticate() bool {
	s := c.server
	if err := c.in.TLSHandshake(s.forceCtx, s.cfg.HandshakeTimeout, &c.peer); err != nil {
		s.counts.handshakeErrors.Add(1)
		s.Report(errdefs.OpHandshake, c.addrText(), err)
		if c.in.MayBePlain(err) {
			c.service.reject(wire.CloseNotTLS)
		}
		return false
	}
	c.in.SetUser(c.peer.Identity())
	if s.cfg.Authorizer == nil {
		return true
	}
	err := c.credentialsErr
	if err != nil {
		err = fmt.Errorf("%w: the peer cannot be identified: %w", errdefs.ErrUnauthorized, err)
	} else {
		err = transport.Authorize(s.cfg.Authorizer, &c.peer)
	}
	if err != nil {
		s.counts.unauthorized.Add(1)
		s.Report(errdefs.OpAuthorize, c.addrText(), err)
		c.service.reject(wire.CloseUnauthorized)
		return false
	}
	return true
}
