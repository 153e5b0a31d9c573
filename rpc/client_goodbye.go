// SPDX-License-Identifier: Apache-2.0

package rpc

// This file is what a Client does when its server says that it stops: what was begun goes on, on the same connection, to its
// end, and what is new waits for the next one.

import (
	"fmt"
	"slices"

	"github.com/udsipc/udsipc"
)

// maxKeptNotifications bounds the notifications that wait for the next connection, in bytes.
const maxKeptNotifications = 1 << 20

// A farewell is the end of a connection on which the server has said goodbye.
type farewell struct {
	over   chan struct{} // Closed with the connection, and when the Client is stopped.
	posted chan struct{} // Closed when nothing is on its way into the queue.
	kept   [][]byte      // Notifications for the next connection, as they go over the wire.
	bytes  int           // Of kept.
}

// hearGoodbye has everything new wait, and answers as soon as what is not new is in the queue.
func (c *Client) hearGoodbye(token []byte) {
	if len(token) > maxToken {
		c.link.Report(udsipc.OpRead, fmt.Errorf("%w: a goodbye with %d bytes", errMalformed, len(token)))
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.farewell != nil {
		return
	}
	f := &farewell{over: make(chan struct{}), posted: make(chan struct{})}
	c.farewell = f
	c.posting++
	c.postedLocked()
	var streams []*Stream
	for _, p := range c.calls {
		if p.stream != nil {
			streams = append(streams, p.stream)
		}
	}
	go c.answerGoodbye(f, streams, string(token)) // Ends when the queue has taken what was sent, or with the connection.
}

// answerGoodbye says that nothing new comes, behind everything that was begun.
func (c *Client) answerGoodbye(f *farewell, streams []*Stream, token string) {
	select {
	case <-f.posted:
	case <-f.over:
		return
	}
	why := &Error{Code: CodeLost, Message: "the server stops"}
	for _, s := range streams {
		s.stopSending(why)
	}
	// If it is not sent, this side has stopped.
	_ = sendWith(c.sendControl, typeGoodbye, func(b []byte) []byte { return append(b, token...) })
}

// postedLocked notes that a message is in the queue, or will not be.
func (c *Client) postedLocked() {
	c.posting--
	if f := c.farewell; f != nil && c.posting == 0 {
		close(f.posted)
	}
}

// resumeLocked lets what is new go on. It returns how many notifications were not sent.
func (c *Client) resumeLocked() (kept int) {
	f := c.farewell
	if f == nil {
		return 0
	}
	c.farewell = nil
	close(f.over)
	return len(f.kept)
}

// keepLocked keeps a notification for the next connection.
func (c *Client) keepLocked(method string, data []byte) error {
	f := c.farewell
	body := slices.Clip(appendNotification([]byte{typeNotify}, method, data))
	if uint64(len(body)) > c.link.MaxMessageSize() {
		return &Error{Code: CodeTooLarge, Message: fmt.Sprintf("a notification of %d bytes (udsipc.WithMaxMessageSize)", len(data))}
	}
	if f.bytes+len(body) > maxKeptNotifications && len(f.kept) > 0 {
		return &Error{Code: CodeTooManyCalls, Message: fmt.Sprintf("the server stops, and %d notifications wait for the next", len(f.kept))}
	}
	f.bytes += len(body)
	f.kept = append(f.kept, body)
	return nil
}

// sendKeptLocked queues the notifications that have waited.
func (c *Client) sendKeptLocked() {
	f := c.farewell
	if f == nil {
		return
	}
	for _, body := range f.kept {
		_, _ = c.link.SendUnbounded(body) // It is not refused, but by Stop.
	}
	f.kept = nil
}
