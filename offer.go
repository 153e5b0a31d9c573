// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the other way to serve a connection: it is offered to the program, which accepts it.

import "sync"

// An acceptQueue holds the connections that were not accepted yet.
type acceptQueue struct {
	offers    chan *offer
	waiting   sync.WaitGroup // Connections that are offered, or will be.
	abandon   sync.Once
	abandoned chan struct{} // Closed when the program accepts no more connections.
	drained   chan struct{} // Closed after the last offer.
}

func newAcceptQueue() *acceptQueue {
	return &acceptQueue{offers: make(chan *offer), abandoned: make(chan struct{}), drained: make(chan struct{})}
}

// accept waits for a connection. It returns nil after the last one; failure then returns the reason, or nil after shutdown.
func (s *server) accept() *offer {
	select {
	case o := <-s.offers.offers:
		return o
	case <-s.offers.drained:
		return nil
	}
}

// abandon closes the connections that nobody has accepted, and those to come.
func (s *server) abandon() { s.offers.close() }

// close ends the offers: the program accepts no more connections.
func (q *acceptQueue) close() { q.abandon.Do(func() { close(q.abandoned) }) }

// finish waits until every connection is accepted or dropped. The queue may be nil.
func (q *acceptQueue) finish() {
	if q != nil {
		q.waiting.Wait()
		close(q.drained)
	}
}

// An offer is a connection that the program may accept. It then owns in, and calls done in the end.
type offer struct {
	in    *inbound
	peer  peer
	ended chan struct{}
}

// done is called once, when the connection is closed and nothing reads from it any more.
func (o *offer) done() { close(o.ended) }

// A conversation is a connection that is offered.
type conversation struct {
	*connection
	queue *acceptQueue
}

// newConversation makes a connection one that is offered.
func newConversation(c *connection, queue *acceptQueue) *conversation {
	queue.waiting.Add(1)
	return &conversation{connection: c, queue: queue}
}

// serve waits until the connection is accepted, and then until it is closed.
func (c *conversation) serve() {
	defer c.server.remove(c.connection)
	if o := c.introduce(); o != nil {
		<-o.ended
	}
}

// introduce offers the connection. It returns nil if the connection was not accepted.
func (c *conversation) introduce() *offer {
	defer c.queue.waiting.Done()
	if c.refused || !c.verify() {
		return nil
	}
	o := &offer{in: c.in, peer: c.peer, ended: make(chan struct{})}
	select {
	case c.queue.offers <- o:
		return o
	case <-c.queue.abandoned:
		c.in.release()
		return nil
	}
}

// requestEnd does nothing: the program decides when the connection ends.
func (c *conversation) requestEnd() {}

// reject does nothing: the peer of a conversation expects messages, not reports.
func (c *conversation) reject(endReason) {}

// release does nothing: the program that accepted the connection releases it.
func (c *conversation) release() {}
