// SPDX-License-Identifier: Apache-2.0

package duplex

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/seam"
)

// receiveBuffer is the number of messages that wait for Receive before reading pauses.
const receiveBuffer = 256

// A Client is a connection to a Server that reconnects. NewClient or NewHandlerClient creates it;
// it accepts messages at once, connects after Start, and ends with Stop. All methods are safe for
// concurrent use.
//
// udsipc.WithStateCallback reports each change: connecting, connected, disconnected, stopped.
type Client struct {
	link     *udsipc.Link
	seam     seam.Link    // Of link.
	received chan Message // nil with a handler.
	once     sync.Once
	stopped  chan struct{} // Closed when Stop begins.
}

// NewClient returns a Client for address; Receive returns its messages. It takes the options of a
// Writer. udsipc.WithAcknowledgements, WithUndelivered and WithMaxAge are errors.
func NewClient(address string, opts ...udsipc.WriterOption) (*Client, error) {
	received := make(chan Message, receiveBuffer)
	c, err := newClient(address, nil, opts)
	if err != nil {
		return nil, err
	}
	c.received = received
	return c, nil
}

// NewHandlerClient returns a Client that calls handle for each message, in order. m.Data is valid
// until handle returns. A panic of handle is reported and costs only its message.
func NewHandlerClient(address string, handle func(m Message), opts ...udsipc.WriterOption) (*Client, error) {
	if handle == nil {
		return nil, udsipc.ErrHandlerNil
	}
	return newClient(address, handle, opts)
}

func newClient(address string, handle func(Message), opts []udsipc.WriterOption) (*Client, error) {
	c := &Client{stopped: make(chan struct{})}
	if handle == nil {
		handle = c.enqueue
	}
	var err error
	c.link, err = udsipc.NewLink(address, func(data []byte) {
		m, err := parse(data)
		if err != nil {
			c.seam.Report(udsipc.OpRead, err) // The framing is intact: reading continues.
			return
		}
		defer func() {
			if value := recover(); value != nil {
				c.seam.Report(udsipc.OpHandle, fmt.Errorf("%w: panic: %v\n%s", udsipc.ErrHandlerFailed, value, debug.Stack()))
			}
		}()
		handle(m)
	}, opts...)
	if err != nil {
		return nil, err
	}
	c.seam = seam.OfLink(c.link)
	c.seam.NoEmptyMessages()
	c.seam.PublishAs("duplex-client", func() any { return c.Metrics() })
	return c, nil
}

// enqueue waits until received has space for m, or Stop begins.
func (c *Client) enqueue(m Message) {
	m.Data = slices.Clone(m.Data)
	select {
	case c.received <- m:
	case <-c.stopped:
	}
}

// Start begins to connect and returns at once. Another call has no effect. After Stop it returns
// udsipc.ErrStopped.
func (c *Client) Start() error { return c.link.Start() }

// Send queues m, and writes it at once if the connection is idle; the caller may reuse m.Data.
// While the Client is disconnected, m waits. If the queue is full, udsipc.WithOverflow applies: the
// default is udsipc.ErrBufferFull.
func (c *Client) Send(m Message) error { return m.send(c.link.WriteMessage) }

// Metrics returns a snapshot of the counters of messages sent and of connections (udsipc.Link.Metrics).
func (c *Client) Metrics() udsipc.WriterMetrics { return c.link.Metrics() }

// Dropped returns how many messages udsipc.OverflowDropOldest has dropped.
func (c *Client) Dropped() uint64 { return c.link.Dropped() }

// Receive returns the next message, which belongs to the caller. It blocks until there is one or
// ctx ends. After Stop it returns the messages that have already arrived, then udsipc.ErrStopped.
// While the program does not receive, 256 messages wait here and the rest in the socket:
// backpressure reaches the server.
func (c *Client) Receive(ctx context.Context) (Message, error) {
	select {
	case m := <-c.received: // Messages that have arrived come before ErrStopped.
		return m, nil
	default:
	}
	select {
	case m := <-c.received:
		return m, nil
	case <-c.stopped:
		return Message{}, udsipc.ErrStopped
	case <-ctx.Done():
		if why := c.seam.Why(); why != nil {
			return Message{}, fmt.Errorf("%w; %w", why, seam.EndOf(ctx))
		}
		return Message{}, context.Cause(ctx)
	}
}

// State returns the state of the connection.
func (c *Client) State() udsipc.State { return c.link.State() }

// WaitConnected blocks until the Client is connected, as udsipc.Link.WaitConnected does.
func (c *Client) WaitConnected(ctx context.Context) error { return c.link.WaitConnected(ctx) }

// Peer returns the identity of the server. It returns false while the Client is disconnected.
func (c *Client) Peer() (udsipc.Peer, bool) { return c.link.Peer() }

// Flush blocks until every message that was sent before is written to a connection, or ctx ends.
func (c *Client) Flush(ctx context.Context) error { return c.link.Flush(ctx) }

// Stop rejects new messages, sends the queued ones, and closes the connection. When ctx ends first,
// it returns an error with the number of unsent messages (udsipc.Link.Stop).
func (c *Client) Stop(ctx context.Context) error {
	c.once.Do(func() { close(c.stopped) })
	return c.link.Stop(ctx)
}

// Close is Stop with a context that ends after udsipc.WithCloseTimeout, 5 s by default. It may be called
// again. It implements io.Closer.
func (c *Client) Close() error {
	ctx, cancel := c.seam.CloseContext()
	defer cancel()
	return c.Stop(ctx)
}
