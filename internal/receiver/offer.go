// SPDX-License-Identifier: Apache-2.0

package receiver

// This file is the other way to serve a connection: it is offered to the program, which accepts it.

import (
	"sync"

	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// An acceptQueue holds the connections that were not accepted yet.
type acceptQueue struct {
	offers    chan *Offer
	waiting   sync.WaitGroup // Connections that are offered, or will be.
	closeOnce sync.Once
	closed    chan struct{} // Closed when the program accepts no more connections.
	finished  chan struct{} // Closed after the last offer.
	// A connection that is not offered gets the reason: no message of its peers is empty.
	tellRejected bool
}

func newAcceptQueue() *acceptQueue {
	return &acceptQueue{offers: make(chan *Offer), closed: make(chan struct{}), finished: make(chan struct{})}
}

// Accept waits for a connection. It returns nil after Abandon, and after the last connection; Failure then returns the
// reason, or nil after Shutdown.
func (s *Server) Accept() *Offer {
	select {
	case <-s.offers.closed: // The connections that still offer themselves see that too.
		<-s.offers.finished
		return nil
	default:
	}
	select {
	case o := <-s.offers.offers:
		return o
	case <-s.offers.finished:
		return nil
	}
}

// TellRejected has connections that are not offered get the goodbye and the report of a Reader, with the
// reason. It must be called before Start.
func (s *Server) TellRejected() { s.offers.tellRejected = true }

// Abandon closes the connections that nobody has accepted, and those to come.
func (s *Server) Abandon() { s.offers.close() }

// close ends the offers: the program accepts no more connections.
func (q *acceptQueue) close() { q.closeOnce.Do(func() { close(q.closed) }) }

// finish waits until every connection is accepted or dropped. The queue may be nil.
func (q *acceptQueue) finish() {
	if q != nil {
		q.waiting.Wait()
		close(q.finished)
	}
}

// An Offer is a connection that the program has accepted. The program owns In, and calls ConnClosed in the end.
type Offer struct {
	In    *transport.In
	Peer  transport.Peer
	ended chan struct{}
}

// ConnClosed is called once, when the connection is closed and nothing reads from it any more.
func (o *Offer) ConnClosed() { close(o.ended) }

// An offeredConn is a connection that is offered.
type offeredConn struct {
	*connection
	queue *acceptQueue
}

// newOfferedConn makes a connection one that is offered.
func newOfferedConn(c *connection, queue *acceptQueue) *offeredConn {
	queue.waiting.Add(1)
	return &offeredConn{connection: c, queue: queue}
}

// serve waits until the connection is accepted, and then until it is closed.
func (c *offeredConn) serve() {
	defer c.server.remove(c.connection)
	if o := c.waitAccepted(); o != nil {
		<-o.ended
	}
}

// waitAccepted offers the connection. It returns nil if the connection was not accepted.
func (c *offeredConn) waitAccepted() *Offer {
	defer c.queue.waiting.Done()
	if c.rejected {
		c.reject(wire.CloseFull)
		return nil
	}
	if !c.authenticate() {
		return nil
	}
	o := &Offer{In: c.in, Peer: c.peer, ended: make(chan struct{})}
	select {
	case c.queue.offers <- o:
		return o
	case <-c.queue.closed:
		c.in.ReleaseBuffer()
		return nil
	}
}

// requestEnd does nothing: the program decides when the connection ends.
func (c *offeredConn) requestEnd() {}

// reject reports the reason if the peers expect that (TellRejected). The peer of another conversation
// would take the goodbye for a message.
func (c *offeredConn) reject(why wire.CloseReason) {
	if c.queue.tellRejected {
		c.in.Reject(why)
	}
}

// release does nothing: the program that accepted the connection releases it.
func (c *offeredConn) release() {}
