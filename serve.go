// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the goroutine that each connection of a Reader has.

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
)

// A readerConn is a connection of a Reader.
type readerConn struct {
	reader   *Reader
	in       *inbound
	peer     peer
	delivery Delivery          // What is known of the message at hand.
	given    Delivery          // The same, for the handler to do with as it likes.
	handle   func(data []byte) // One of the handle methods, bound once.
	failure  error             // What the handler did instead of returning; nil once that is dealt with.
	exited   bool              // It has ended the goroutine, and another has to go on.
	tried    attempts          // Of the message at hand, or the one before.
	refused  bool
	user     string               // Whose it counts as.
	unknown  error                // Why who it is could not be told.
	acks     *inSession           // Of a session; nil without one.
	claim    *claim               // Of a session; nil without one.
	legacy   *legacySession       // The session that it has begun with; nil without one.
	stale    error                // Why that cannot go on.
	talk     atomic.Pointer[Conn] // Of a Listener; nil before it is known who it is.
	fenced   chan struct{}        // Closed when a newer connection takes over; nil without a session.

	// For the watchdog.
	handling atomic.Bool   // A handler may be running.
	offers   atomic.Uint64 // How often a message was handed over again.
	pulse    pulse         // Guarded by Reader.mu.
}

// admit starts to serve conn, which is new, or which an earlier process has left. One too many is served as well, but refused further bytes: what it sent
// before it could know is handled.
func (r *Reader) admit(conn net.Conn, from *legacyConn) {
	peer := peer{Addr: conn.RemoteAddr()}
	var unknown error
	peer.Credentials, unknown = identify(conn)
	if r.cfg.tls != nil {
		conn = tls.Server(&beneathTLS{Conn: conn}, r.cfg.tls)
	}
	limits := r.cfg.inLimits()
	limits.inherited = from != nil && from.kind != storeFresh
	c := &readerConn{reader: r, in: newInbound(conn, limits, &r.memory), unknown: unknown, user: peer.identity()}
	if c.handle = c.handleMessage; r.deliver != nil {
		c.handle = c.handleDelivery
	}
	r.counts.accepted.Add(1)
	c.peer = peer
	if from != nil && from.session != nil {
		c.reclaim(from.session)
	}
	r.mu.Lock()
	r.lastID++
	c.peer.ID = r.lastID
	c.delivery.Peer = publicPeer(&c.peer)
	full := r.fullLocked(peer.identity())
	if c.refused = full != nil; c.refused {
		r.refusing++
	} else {
		r.users[peer.identity()]++
	}
	r.conns[c] = struct{}{}
	if c.refused || r.closing {
		r.endLocked(c)
	}
	if r.forced {
		c.in.halt() // As force has done to the others.
	}
	r.wg.Add(1)
	if r.conversations != nil {
		r.offered.Add(1)
	}
	r.mu.Unlock()

	if c.refused {
		r.counts.refused.Add(1)
		r.reportAccept(c.where(), full)
	}
	go c.serve() // Ends with the connection; finish waits for it.
}

// fullLocked says why there is no room for one more connection of this user.
func (r *Reader) fullLocked(user string) error {
	switch {
	case len(r.conns)-r.refusing >= r.cfg.maxConnections:
		return fmt.Errorf("%w: %d are open (WithMaxConnections)", errTooManyConnections, r.cfg.maxConnections)
	case user != "" && r.users[user] >= r.cfg.maxConnectionsPerUser:
		return fmt.Errorf("%w: %d of %s are open (WithMaxConnectionsPerUser)", errTooManyConnections, r.cfg.maxConnectionsPerUser, user)
	}
	return nil
}

// remove ends a connection.
func (r *Reader) remove(c *readerConn) {
	c.in.close()
	if r.conversations == nil {
		c.in.release() // A Conn does it itself.
	}
	r.mu.Lock()
	delete(r.conns, c)
	if c.refused {
		r.refusing--
	} else if r.users[c.user]--; r.users[c.user] == 0 {
		delete(r.users, c.user)
	}
	r.counts.add(c.in.counted())
	handingOver := r.handingOver
	r.mu.Unlock()
	if why := c.in.handOverError(); handingOver && why != nil {
		r.report(opHandOver, c.where(), why)
	}
	r.signalRest()
	select {
	case r.room <- struct{}{}:
	default:
	}
	r.wg.Done()
}

// where names the connection in errors.
func (c *readerConn) where() string {
	return c.reader.cfg.where + ", " + c.peer.String()
}

// serve handles what comes until the connection ends.
func (c *readerConn) serve() {
	defer c.end()
	if c.reader.conversations != nil {
		c.converse()
		return
	}
	if !c.verify() {
		return
	}
	c.in.identifiedAs(c.peer.identity())
	if c.legacy != nil && !c.resume() {
		return
	}
	c.serveMessages()
	c.discard()
}

// goOn is serve for a connection whose handler has ended the goroutine (runtime.Goexit).
func (c *readerConn) goOn() {
	defer c.end()
	c.serveMessages()
	c.discard()
}

// end is the end of the connection, or of one goroutine of it.
func (c *readerConn) end() {
	if c.exited {
		c.exited = false
		go c.goOn() // Ends with the connection; finish waits for it.
		return
	}
	if c.reader.conversations == nil {
		c.leaveSession()
	}
	c.reader.remove(c)
}

// discard accounts, after a Stop that does not wait, for what was read of a plain connection and is not handled, and
// tells the writer. In a session that comes again.
func (c *readerConn) discard() {
	if c.claim != nil || !c.in.isHalted() {
		return
	}
	c.in.farewell()
	if messages := c.in.wholeMessages(); messages > 0 {
		c.reader.counts.discarded.Add(messages)
		c.reader.report(opStop, c.where(), fmt.Errorf("%w: %d messages were read and are not handled", errStopped, messages))
	}
}

func (c *readerConn) serveMessages() {
	for {
		err := c.deliver()
		switch {
		case err == errOpening && c.openSession(), err != nil && err != errOpening && c.refuse(err):
			continue
		case err != nil, c.reader.handling.Err() != nil:
			return
		}
		switch err := c.in.fill(); {
		case err == nil:
		case err == errHandOver && c.handOver(), err != errHandOver && !c.goesOn(err):
			return
		}
	}
}

// converse gives the connection to whoever calls Accept, and waits for its end.
func (c *readerConn) converse() {
	c.reader.queued.addQueue()
	defer c.reader.queued.removeQueue()
	conn, accepted := c.introduce()
	if accepted {
		<-conn.closed
	}
}

// introduce waits until somebody accepts the connection.
func (c *readerConn) introduce() (conn *Conn, accepted bool) {
	defer c.reader.offered.Done()
	if c.refused || !c.verify() {
		return nil, false
	}
	c.in.identifiedAs(c.peer.identity())
	conn = newConn(c.in, c.delivery.Peer, &c.reader.cfg.sharedConfig, &c.reader.queued)
	conn.stalls = &c.reader.counts.stalled
	c.talk.Store(conn)
	select {
	case c.reader.conversations <- conn:
		return conn, true
	case <-c.reader.abandoned:
		c.in.release()
		return nil, false
	}
}

// verify makes the TLS handshake and asks the authorizer, before anything of the peer is looked at.
func (c *readerConn) verify() bool {
	r := c.reader
	if err := c.in.handshake(r.handling, r.cfg.handshakeTimeout, &c.peer); err != nil {
		r.counts.handshakeErrors.Add(1)
		r.report(opHandshake, c.where(), err)
		if r.conversations == nil && c.in.mayBePlain(err) {
			c.in.reject(endNotTLS)
		}
		return false
	}
	c.delivery.Peer = publicPeer(&c.peer)
	if r.cfg.authorizer == nil {
		return true
	}
	err := c.unknown
	if err != nil {
		err = fmt.Errorf("%w: who it is cannot be told: %w", errUnauthorized, err)
	} else {
		err = permit(authorizePeer(r.cfg.authorizer), &c.peer)
	}
	if err != nil {
		r.counts.unauthorized.Add(1)
		r.report(opAuthorize, c.where(), err)
		if r.conversations == nil {
			c.in.reject(endUnauthorized)
		}
		return false
	}
	return true
}

// refuse deals with bytes that the protocol or the limit does not allow. A message that is too large
// ends the connection gracefully: what the peer sent behind it is handled. After a length that is
// none, nothing makes sense any more, and the peer is told what was read.
func (c *readerConn) refuse(err error) (goesOn bool) {
	c.reader.report(opRead, c.where(), err)
	if !errors.Is(err, errMessageTooLarge) {
		c.reader.counts.malformed.Add(1)
		c.in.reject(endMalformed)
		return false
	}
	c.reader.counts.tooLarge.Add(1)
	if c.claim != nil {
		return false // The welcome has told the limit, and a message that is skipped would have a number.
	}
	c.in.requestClose(endTooLarge)
	return true
}

// goesOn says whether there is more to read after err, and accounts for what err means.
func (c *readerConn) goesOn(err error) bool {
	closing := c.in.isClosing()
	switch {
	case isTimeout(err) && !closing:
		c.reader.counts.idleClosed.Add(1)
		c.in.requestClose(endOrderly)
		return true
	case errors.Is(err, errEnded), errors.Is(err, net.ErrClosed), closing:
		if closing {
			c.in.farewell()
		}
		return false
	case errors.Is(err, errTooSlow):
		c.reader.counts.tooSlow.Add(1)
		c.reader.report(opRead, c.where(), err)
		c.in.requestClose(endTooSlow)
		return true
	case errors.Is(err, errPeerSilent):
		c.reader.report(opRead, c.where(), err)
		return false
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		c.in.answerEnd()
	}
	if n := c.in.midway(); n > 0 {
		c.reader.counts.truncated.Add(1)
		c.reader.report(opRead, c.where(), fmt.Errorf("%w in the middle of a message, after %d bytes of it: %w", errConnectionClosed, n, err))
	} else if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.ErrClosedPipe) {
		c.reader.report(opRead, c.where(), err)
	}
	return false
}
