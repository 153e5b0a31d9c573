// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what a server does with a connection for conversations: it offers the connection to whoever accepts.

import "sync"

// An acceptQueue holds the connections that nobody has accepted yet.
type acceptQueue struct {
	offers    chan *offer
	waiting   sync.WaitGroup // Connections that may still be offered, or are.
	abandon   sync.Once
	abandoned chan struct{} // Closed when nobody accepts any more.
	drained   chan struct{} // Closed when no offer will come any more.
}

func newAcceptQueue() *acceptQueue {
	return &acceptQueue{offers: make(chan *offer), abandoned: make(chan struct{}), drained: make(chan struct{})}
}

// accept waits for a connection. It returns nil if none will come any more; failure tells why, if not because of shutdown.
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

// close says that nobody accepts any more.
func (q *acceptQueue) close() { q.abandon.Do(func() { close(q.abandoned) }) }

// finish waits until every connection is accepted or dropped. The queue may be nil.
func (q *acceptQueue) finish() {
	if q != nil {
		q.waiting.Wait()
		close(q.drained)
	}
}

// An offer is a connection that may be accepted. Whoever accepts it owns in, and calls done.
type offer struct {
	in    *inbound
	peer  peer
	ended chan struct{}
}

// done says that the connection is closed, and that nothing reads from it any more. It is called once.
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

// serve waits until somebody accepts the connection, and for its end.
func (c *conversation) serve() {
	defer c.server.remove(c.connection)
	if o := c.introduce(); o != nil {
		<-o.ended
	}
}

// introduce returns nil if nobody has accepted the connection.
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

// requestEnd does nothing: those who converse decide when that ends.
func (c *conversation) requestEnd() {}

// reject says nothing: what a Reader tells a Writer is no message.
func (c *conversation) reject(endReason) {}

// release leaves everything to whoever has accepted the connection.
func (c *conversation) release() {}
