// SPDX-License-Identifier: Apache-2.0

package duplex

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/udsipc/udsipc"
)

// receiveBuffer is how many messages wait for Receive before no more are read.
const receiveBuffer = 256

// A Client is connected to a Server, again and again. It is made by NewClient or NewHandlerClient, takes messages at once,
// connects after Start, and ends with Stop. All methods may be called from any goroutine.
//
// udsipc.WithStateCallback tells of each change: connecting, connected, lost, stopped.
type Client struct {
	link     *udsipc.Link
	received chan Message // nil with a handler.
	once     sync.Once
	stopped  chan struct{} // Closed when Stop begins: nobody waits for Receive any more.
}

// NewClient returns a Client whose messages come from Receive. Of the options of a Writer all count but
// udsipc.WithAcknowledgements, WithUndelivered and WithMaxAge.
func NewClient(address string, opts ...udsipc.WriterOption) (*Client, error) {
	received := make(chan Message, receiveBuffer)
	c, err := newClient(address, nil, opts)
	if err != nil {
		return nil, err
	}
	c.received = received
	return c, nil
}

// NewHandlerClient returns a Client that hands each message to handle, in order; m.Data is valid until it returns. One
// at which it panics is reported.
func NewHandlerClient(address string, handle func(m Message), opts ...udsipc.WriterOption) (*Client, error) {
	if handle == nil {
		return nil, udsipc.ErrHandlerNil
	}
	return newClient(address, handle, opts)
}

// NewWatchedClient is NewHandlerClient with somebody who is told of each state before udsipc.WithStateCallback is, and of
// messages over udsipc.WithMaxMessageSize, for what is built on a Client.
func NewWatchedClient(address string, handle func(m Message), watch func(state udsipc.State, cause error), tooLarge func(*udsipc.TooLargeError), opts ...udsipc.WriterOption) (*Client, error) {
	return newClient(address, handle, append(slices.Clone(opts), udsipc.WithStateWatch(watch), udsipc.WithTooLarge(tooLarge)))
}

func newClient(address string, handle func(Message), opts []udsipc.WriterOption) (*Client, error) {
	c := &Client{stopped: make(chan struct{})}
	if handle == nil {
		handle = c.keep
	}
	var err error
	c.link, err = udsipc.NewLink(address, func(data []byte) {
		m, err := parse(data)
		if err != nil {
			c.link.Report(udsipc.OpRead, err) // The frames are right, so what comes next is read.
			return
		}
		defer func() {
			if value := recover(); value != nil {
				c.link.Report(udsipc.OpHandle, fmt.Errorf("%w: panic: %v\n%s", udsipc.ErrHandlerFailed, value, debug.Stack()))
			}
		}()
		handle(m)
	}, opts...)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// keep waits for room for a message that nobody has received yet.
func (c *Client) keep(m Message) {
	m.Data = slices.Clone(m.Data)
	select {
	case c.received <- m:
	case <-c.stopped:
	}
}

// Start begins to connect and returns at once. It may be called again; after Stop it returns udsipc.ErrStopped.
func (c *Client) Start() error { return c.link.Start() }

// Send queues m, and writes it at once if the connection is idle; the caller may reuse m.Data. While the Client is
// away, m waits. If the queue is full, udsipc.WithOverflow says what happens: udsipc.ErrBufferFull by default.
func (c *Client) Send(m Message) error { return m.send(c.link.WriteMessage) }

// SendBody is Send for a message that is a body already (Message.Append); the caller may reuse it at once. It returns
// the number of the message, from 1, which Sent compares with.
func (c *Client) SendBody(body []byte) (number uint64, err error) { return c.link.Send(body) }

// SendControl is SendBody for what ends or frees something at the server: the bounds of the queue do not hold for it
// (udsipc.Link.SendControl).
func (c *Client) SendControl(body []byte) error {
	_, err := c.link.SendControl(body)
	return err
}

// SendAlways is SendBody for a message that the bounds of the queue do not hold for (udsipc.Link.SendAlways).
func (c *Client) SendAlways(body []byte) error {
	_, err := c.link.SendAlways(body)
	return err
}

// Sent returns the number of the last message that a connection has taken whole (udsipc.Link.Sent).
func (c *Client) Sent() uint64 { return c.link.Sent() }

// Dropped returns how many messages udsipc.OverflowDropOldest has dropped.
func (c *Client) Dropped() uint64 { return c.link.Dropped() }

// Receive returns the next message, which is the caller's. It waits until there is one or ctx ends. After Stop it returns
// what had come by then, and then udsipc.ErrStopped. While nobody receives, 256 messages wait here and the rest in the
// socket.
func (c *Client) Receive(ctx context.Context) (Message, error) {
	select {
	case m := <-c.received: // What is there comes before any end.
		return m, nil
	default:
	}
	select {
	case m := <-c.received:
		return m, nil
	case <-c.stopped:
		return Message{}, udsipc.ErrStopped
	case <-ctx.Done():
		return Message{}, context.Cause(ctx)
	}
}

// State returns what the connection is doing.
func (c *Client) State() udsipc.State { return c.link.State() }

// WaitConnected waits until there is a connection (udsipc.Link.WaitConnected).
func (c *Client) WaitConnected(ctx context.Context) error { return c.link.WaitConnected(ctx) }

// Peer returns who the server is, and false while there is no connection.
func (c *Client) Peer() (udsipc.Peer, bool) { return c.link.Peer() }

// Flush waits until connections have taken everything that was sent before, or until ctx ends.
func (c *Client) Flush(ctx context.Context) error { return c.link.Flush(ctx) }

// Stop refuses further messages, sends those that are queued, and closes the connection; when ctx ends first, it returns
// an error that says how many were left (udsipc.Link.Stop).
func (c *Client) Stop(ctx context.Context) error {
	c.once.Do(func() { close(c.stopped) })
	return c.link.Stop(ctx)
}

// MaxMessageSize returns the largest frame that the Client sends and takes: a message and its type.
func (c *Client) MaxMessageSize() uint64 { return c.link.MaxMessageSize() }

// Overflow returns what happens when the queue is full (udsipc.WithOverflow).
func (c *Client) Overflow() udsipc.OverflowPolicy { return c.link.Overflow() }

// Report hands an error to udsipc.WithWriterErrorCallback, for what is built on a Client.
func (c *Client) Report(op string, err error) { c.link.Report(op, err) }
