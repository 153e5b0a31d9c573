// SPDX-License-Identifier: Apache-2.0

package rpc

// This file completes calls at the client: by a response, a disconnect, a message over the limit,
// or Stop.

import (
	"fmt"
	"slices"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/seam"
)

// recordSeq records the sequence number of a call's message. If that message was sent on a
// connection that was lost meanwhile, onDisconnect did not know it, and the call fails here.
func (c *Client) recordSeq(p *pendingCall, id, number uint64, err error) {
	c.mu.Lock()
	c.doneEnqueueingLocked()
	abandoned := err == nil && p.abandoned
	if err == nil && c.calls[id] == p {
		p.seq = number
		if p.disconnects != c.disconnects.Load() && number <= c.sentAtLoss {
			c.failLostLocked(id, p)
		}
	}
	c.mu.Unlock()
	if abandoned {
		c.sendCancel(id)
	}
}

// onDisconnect runs when a connection has ended. The calls that were sent on it fail. The others
// were certainly not handled: they wait for the next connection, unless they fail fast.
func (c *Client) onDisconnect() {
	sent := c.link.SentSeq()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disconnects.Add(1)
	c.sentAtLoss = sent
	c.sendHeldLocked()
	c.endGoodbyeLocked()
	for id, p := range c.calls {
		if p.seq > 0 && p.seq <= sent || c.failsFast(p.ctx) {
			c.failLostLocked(id, p)
		}
	}
}

// failLostLocked completes a call with an unknown outcome.
func (c *Client) failLostLocked(id uint64, p *pendingCall) {
	delete(c.calls, id)
	c.signalIdleLocked()
	lost := &Error{Code: CodeConnectionLost, Message: "the request was sent, and whether it was handled is not known"}
	if p.seq == 0 || p.seq > c.sentAtLoss { // It fails fast.
		lost.Message = "the request was queued, and may be sent on the next connection"
		// There its handler must not wait for a client that does not know the call any more.
		switch p.abandoned = p.seq == 0; {
		case !p.abandoned:
			c.sendCancel(id)
		case p.stopWait != nil:
			p.stopWait()
		}
	}
	switch {
	case p.stream != nil:
		p.stream.fail(lost)
		return
	case p.idempotent && !c.stopping:
		p.retry = true
	default:
		p.err = lost
	}
	p.done <- struct{}{}
}

// failAll fails all calls and returns their number.
func (c *Client) failAll(cause *Error) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.calls)
	for id, p := range c.calls {
		delete(c.calls, id)
		if p.stream != nil {
			p.stream.fail(cause)
			continue
		}
		p.err = cause
		p.done <- struct{}{}
	}
	c.signalIdleLocked()
	return n
}

// onTooLarge fails the call whose response is over the limit.
func (c *Client) onTooLarge(e *seam.TooLarge) {
	r := fieldReader{rest: e.Head}
	if kind := r.number(); r.bad || kind != typeResponse && kind != typeError && kind != typeData {
		return
	}
	id, _, err := parseID(r.rest)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.calls[id]
	if p == nil {
		return
	}
	cause := &Error{Code: CodeTooLarge, Message: fmt.Sprintf(
		"a response of %d bytes, the limit is %d (udsipc.WithMaxMessageSize of the client)", e.Size,
		e.Limit)}
	if p.stream != nil {
		// The end of its context sends a cancel to the server: the stream cannot end gracefully any
		// more.
		p.stream.failReported(cause)
		return
	}
	delete(c.calls, id)
	c.signalIdleLocked()
	p.err = cause
	p.done <- struct{}{}
}

// handle handles a message of the server.
func (c *Client) handle(m duplex.Message) {
	if m.Type == typeGoodbye {
		c.onGoodbye(m.Data)
		return
	}
	id, rest, err := parseID(m.Data)
	if err != nil {
		c.link.Report(udsipc.OpRead, err)
		return
	}
	c.mu.Lock()
	p := c.calls[id]
	if p == nil {
		c.mu.Unlock()
		return // The caller has cancelled it.
	}
	if p.stream != nil {
		stream := p.stream
		if endsStream(m.Type, rest) {
			delete(c.calls, id)
			c.signalIdleLocked()
		}
		c.mu.Unlock()
		// If it failed, the end of its context sends a cancel to the server.
		if _, err := stream.onMessage(m.Type, rest, c.keepMessage); err != nil {
			c.link.Report(udsipc.OpRead, err)
		}
		return
	}
	delete(c.calls, id)
	c.signalIdleLocked()
	c.mu.Unlock()
	switch m.Type {
	case typeResponse:
		p.response = slices.Clone(rest)
		if p.response == nil {
			p.response = []byte{}
		}
	case typeError:
		p.err = parseError(rest)
	default:
		p.err = &Error{Code: CodeUnknown, Message: fmt.Sprintf("the server sends a message of type %d", m.Type)}
	}
	p.done <- struct{}{}
}
