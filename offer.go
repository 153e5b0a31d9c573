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

// next waits for an offer. It returns nil if none will come any more.
func (q *acceptQueue) next() *offer {
	select {
	case o := <-q.offers:
		return o
	case <-q.drained:
		return nil
	}
}

// close drops the connections that nobody has accepted.
func (q *acceptQueue) close() { q.abandon.Do(func() { close(q.abandoned) }) }

// finish waits until every connection is accepted or dropped. The queue may be nil.
func (q *acceptQueue) finish() {
	if q != nil {
		q.waiting.Wait()
		close(q.drained)
	}
}

// An offer is a connection for a conversation. Whoever accepts it owns in, and closes it.
type offer struct {
	*connection
	queue *acceptQueue
	ended chan struct{}
}

// newOffer makes a connection one that is offered. The server's mutex is held.
func newOffer(c *connection, queue *acceptQueue) *offer {
	queue.waiting.Add(1)
	return &offer{connection: c, queue: queue, ended: make(chan struct{})}
}

// done says that the connection is closed, and that nothing reads from it any more.
func (o *offer) done() { close(o.ended) }

// serve waits until somebody accepts the connection, and for its end.
func (o *offer) serve() {
	defer o.server.remove(o.connection)
	if o.introduce() {
		<-o.ended
	}
}

func (o *offer) introduce() (accepted bool) {
	defer o.queue.waiting.Done()
	if o.refused || !o.verify() {
		return false
	}
	select {
	case o.queue.offers <- o:
		return true
	case <-o.queue.abandoned:
		o.in.release()
		return false
	}
}

// A conversation ends when those who converse decide.
func (o *offer) requestEnd() {}

// reject says nothing: what a Reader tells a Writer is no message.
func (o *offer) reject(endReason) {}

// release leaves everything to whoever has accepted the connection.
func (o *offer) release() {}
