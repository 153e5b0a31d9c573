// SPDX-License-Identifier: Apache-2.0

package rpc

// This file is what a Client does when its server says that it stops: what was begun goes on, on the same connection, to its
// end, and what is new waits for the next one.

import (
	"fmt"
	"slices"

	"github.com/udsipc/udsipc"
)

// maxHeldNotifications bounds the notifications that wait for the next connection, in bytes.
const maxHeldNotifications = 1 << 20

// A goodbyeState is the end of a connection on which the server has said goodbye.
type goodbyeState struct {
	ended     chan struct{} // Closed with the connection, and when the Client is stopped.
	allQueued chan struct{} // Closed when nothing is on its way into the queue.
	held      [][]byte      // Notifications for the next connection, as they go over the wire.
	bytes     int           // Of kept.
}

// onGoodbye has everything new wait, and answers as soon as what is not new is in the queue.
func (c *Client) onGoodbye(token []byte) {
	if len(token) > maxToken {
		c.link.Report(udsipc.OpRead, fmt.Errorf("%w: a goodbye with %d bytes", errMalformed, len(token)))
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.goodbye != nil {
		return
	}
	f := &goodbyeState{ended: make(chan struct{}), allQueued: make(chan struct{})}
	c.goodbye = f
	c.enqueueing++
	c.doneEnqueueingLocked()
	var streams []*Stream
	for _, p := range c.calls {
		if p.stream != nil {
			streams = append(streams, p.stream)
		}
	}
	go c.replyGoodbye(f, streams, string(token)) // Ends when the queue has taken what was sent, or with the connection.
}

// replyGoodbye says that nothing new comes, behind everything that was begun.
func (c *Client) replyGoodbye(f *goodbyeState, streams []*Stream, token string) {
	select {
	case <-f.allQueued:
	case <-f.ended:
		return
	}
	why := &Error{Code: CodeConnectionLost, Message: "the server stops"}
	for _, s := range streams {
		s.stopSending(why)
	}
	// If it is not sent, this side has stopped.
	_ = sendWith(c.sendControl, typeGoodbye, func(b []byte) []byte { return append(b, token...) })
}

// doneEnqueueingLocked notes that a message is in the queue, or will not be.
func (c *Client) doneEnqueueingLocked() {
	c.enqueueing--
	if f := c.goodbye; f != nil && c.enqueueing == 0 {
		close(f.allQueued)
	}
}

// endGoodbyeLocked lets what is new go on. It returns how many notifications were not sent.
func (c *Client) endGoodbyeLocked() (kept int) {
	f := c.goodbye
	if f == nil {
		return 0
	}
	c.goodbye = nil
	close(f.ended)
	return len(f.held)
}

// holdNotificationLocked keeps a notification for the next connection.
func (c *Client) holdNotificationLocked(method string, data []byte) error {
	f := c.goodbye
	body := slices.Clip(appendNotification([]byte{typeNotify}, method, data))
	if uint64(len(body)) > c.link.MaxMessageSize() {
		return &Error{Code: CodeTooLarge, Message: fmt.Sprintf("a notification of %d bytes (udsipc.WithMaxMessageSize)", len(data))}
	}
	if f.bytes+len(body) > maxHeldNotifications && len(f.held) > 0 {
		return &Error{Code: CodeResourceExhausted, Message: fmt.Sprintf("the server stops, and %d notifications wait for the next", len(f.held))}
	}
	f.bytes += len(body)
	f.held = append(f.held, body)
	return nil
}

// sendHeldLocked queues the notifications that have waited.
func (c *Client) sendHeldLocked() {
	f := c.goodbye
	if f == nil {
		return
	}
	for _, body := range f.held {
		_, _ = c.link.SendUnbounded(body) // It is not refused, but by Stop.
	}
	f.held = nil
}
