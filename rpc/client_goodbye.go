// SPDX-License-Identifier: Apache-2.0

package rpc

// This file handles the goodbye of a stopping server: calls in flight complete on the same
// connection, and new ones wait for the next.

import (
	"fmt"
	"slices"

	"github.com/udsipc/udsipc"
)

// maxHeldNotifications limits the notifications that wait for the next connection, in bytes.
const maxHeldNotifications = 1 << 20

// A goodbyeState is the state of a connection after the server's goodbye.
type goodbyeState struct {
	ended     chan struct{} // Closed at the end of the connection, and by Stop.
	allQueued chan struct{} // Closed when enqueueing is 0.
	held      [][]byte      // Encoded notifications for the next connection.
	bytes     int           // Of held.
}

// onGoodbye makes new calls wait. It starts the reply, which is sent after all that is being
// queued.
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
	g := &goodbyeState{ended: make(chan struct{}), allQueued: make(chan struct{})}
	c.goodbye = g
	c.enqueueing++
	c.doneEnqueueingLocked()
	var streams []*Stream
	for _, p := range c.calls {
		if p.stream != nil {
			streams = append(streams, p.stream)
		}
	}
	// Ends after the reply is queued, or with the connection.
	go c.replyGoodbye(g, streams, string(token))
}

// replyGoodbye replies that nothing new follows, after everything that was started.
func (c *Client) replyGoodbye(g *goodbyeState, streams []*Stream, token string) {
	select {
	case <-g.allQueued:
	case <-g.ended:
		return
	}
	cause := &Error{Code: CodeConnectionLost, Message: "the server stops"}
	for _, s := range streams {
		s.stopSending(cause)
	}
	// An error means that this Client has stopped.
	_ = sendWith(c.sendControl, typeGoodbye, func(b []byte) []byte { return append(b, token...) })
}

// doneEnqueueingLocked records that a message was queued or refused.
func (c *Client) doneEnqueueingLocked() {
	c.enqueueing--
	if g := c.goodbye; g != nil && c.enqueueing == 0 {
		close(g.allQueued)
	}
}

// endGoodbyeLocked lets new calls continue. It returns the number of notifications that were not
// sent.
func (c *Client) endGoodbyeLocked() (kept int) {
	g := c.goodbye
	if g == nil {
		return 0
	}
	c.goodbye = nil
	close(g.ended)
	return len(g.held)
}

// holdNotificationLocked stores a notification for the next connection.
func (c *Client) holdNotificationLocked(method string, data []byte) error {
	g := c.goodbye
	body := slices.Clip(appendNotification([]byte{typeNotify}, method, data))
	if uint64(len(body)) > c.link.MaxMessageSize() {
		return &Error{
			Code:    CodeTooLarge,
			Message: fmt.Sprintf("a notification of %d bytes (udsipc.WithMaxMessageSize)", len(data)),
		}
	}
	if g.bytes+len(body) > maxHeldNotifications && len(g.held) > 0 {
		return &Error{Code: CodeResourceExhausted, Message: fmt.Sprintf(
			"the server stops, and %d notifications wait for the next", len(g.held))}
	}
	g.bytes += len(body)
	g.held = append(g.held, body)
	return nil
}

// sendHeldLocked queues the stored notifications.
func (c *Client) sendHeldLocked() {
	g := c.goodbye
	if g == nil {
		return
	}
	for _, body := range g.held {
		_, _ = c.link.SendUnbounded(body) // Only Stop refuses it.
	}
	g.held = nil
}
