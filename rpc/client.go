// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/seam"
)

// maxQueuedRequests is how many messages wait for the connection by default; udsipc.WithMaxBufferedBytes bounds them as well.
const maxQueuedRequests = 1 << 20

// A Client makes calls. It is made by NewClient, connects after Start, again and again, and ends with Stop. All methods
// may be called from any goroutine.
type Client struct {
	duplex *duplex.Client
	link   seam.Link // Of duplex.

	mu          sync.Mutex // Guards what follows.
	lastID      uint64
	calls       map[uint64]*pendingCall
	stopping    bool
	idle        chan struct{} // Closed when there are no calls; nil when nobody waits for that.
	enqueueing  int           // Messages on their way into the queue, of calls and notifications.
	goodbye     *goodbyeState // The server has said goodbye on this connection; nil if not.
	disconnects uint64        // Connections that were lost.
	sentAtLoss  uint64        // What the last of them had sent.
}

// A pendingCall is a call that waits for its response.
type pendingCall struct {
	done     chan struct{} // One slot: what follows is there.
	response []byte
	err      *Error
	retry    bool // It is to be sent again.

	idempotent  bool
	disconnects uint64  // When it was sent.
	seq         uint64  // Of its message; 0 while that is not known.
	stream      *Stream // nil for a call.
}

var pendingPool = sync.Pool{New: func() any { return &pendingCall{done: make(chan struct{}, 1)} }}

// NewClient returns a Client for the Server at address, with the options of duplex.NewClient.
func NewClient(address string, opts ...udsipc.WriterOption) (*Client, error) {
	c := &Client{calls: make(map[uint64]*pendingCall)}
	opts = append([]udsipc.WriterOption{udsipc.WithMaxBufferedWrites(maxQueuedRequests)}, opts...)
	var err error
	c.duplex, err = duplex.NewHandlerClient(address, c.handle, opts...)
	if err != nil {
		return nil, err
	}
	c.link = seam.OfClient(c.duplex)
	if udsipc.OverflowPolicy(c.link.Overflow()) == udsipc.OverflowDropOldest {
		return nil, errDropOldest
	}
	c.link.OnDisconnect(c.onDisconnect)
	c.link.OnTooLarge(c.onTooLarge)
	return c, nil
}

// Start begins to connect and returns at once. It may be called again; after Stop it returns udsipc.ErrStopped.
func (c *Client) Start() error { return c.duplex.Start() }

// WaitConnected waits until there is a connection. To call without waiting is all right: a call waits too.
func (c *Client) WaitConnected(ctx context.Context) error { return c.duplex.WaitConnected(ctx) }

// Peer returns who the server is, and false while there is no connection.
func (c *Client) Peer() (udsipc.Peer, bool) { return c.duplex.Peer() }

// Call calls a method and returns its response, which belongs to the caller; then request may be
// reused. ctx limits the call; its cancellation and its deadline reach the handler. The error is
// always an *Error.
func (c *Client) Call(ctx context.Context, method string, request []byte) (response []byte, err error) {
	return c.call(ctx, method, request, false)
}

// CallIdempotent is Call for an idempotent method: after a disconnect it is sent again, up to three
// times, instead of failing with CodeConnectionLost.
func (c *Client) CallIdempotent(ctx context.Context, method string, request []byte) (response []byte, err error) {
	return c.call(ctx, method, request, true)
}

func (c *Client) call(ctx context.Context, method string, data []byte, idempotent bool) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, asError(err)
	}
	p := pendingPool.Get().(*pendingCall)
	defer pendingPool.Put(p)
	for losses := 0; ; losses++ {
		*p = pendingCall{done: p.done, idempotent: idempotent && losses < maxRetries}
		id, err := c.admit(ctx, p, method)
		if err != nil {
			return nil, err
		}
		q := request{id: id, timeout: timeoutOf(ctx)}
		if err := c.sendRequest(p, &q, typeRequest, method, data); err != nil {
			if !c.removeCall(id) {
				<-p.done // A loss came first.
			}
			return nil, asError(err)
		}
		if canceled := p.wait(ctx); canceled && c.removeCall(id) {
			c.sendCancel(id)
			return nil, &Error{Code: CodeOf(ctx.Err()), Message: method}
		} else if canceled {
			<-p.done // It came at that very moment.
		}
		switch {
		case p.retry:
			continue
		case p.err != nil:
			return nil, p.err
		}
		return p.response, nil
	}
}

// maxRetries is how often an idempotent call is sent again: it may be what the connection is lost by.
const maxRetries = 3

// notConnected is why a call was not made: the Client was stopped, or ctx has ended while it was away.
func notConnected(ctx context.Context, err error, method string) error {
	if why := ctx.Err(); why != nil {
		return &Error{Code: CodeOf(why), Message: method + ": not connected"}
	}
	return asError(err)
}

// wait waits for the response, and says whether the context has ended instead.
func (p *pendingCall) wait(ctx context.Context) (canceled bool) {
	over := ctx.Done()
	if over == nil {
		<-p.done // Half the time of a select.
		return false
	}
	select {
	case <-p.done:
		return false
	case <-over:
		return true
	}
}

// timeoutOf is how long a context still lasts; 0 for ever.
func timeoutOf(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return max(time.Until(deadline), time.Microsecond)
}

// Notify sends a request without a response. The server handles a client's notifications in order,
// and reads nothing else from it meanwhile: keep handlers short.
func (c *Client) Notify(method string, data []byte) error {
	c.mu.Lock()
	switch {
	case c.stopping:
		c.mu.Unlock()
		return &Error{Code: CodeStopped, Message: method}
	case c.goodbye != nil:
		defer c.mu.Unlock()
		return c.holdNotificationLocked(method, data)
	}
	c.enqueueing++
	c.mu.Unlock()
	err := sendWith(c.send, typeNotify, func(b []byte) []byte { return appendNotification(b, method, data) })
	c.mu.Lock()
	c.doneEnqueueingLocked()
	c.mu.Unlock()
	if err != nil {
		return asError(err)
	}
	return nil
}

// Stop rejects new calls, waits for calls in flight, and closes the connection. When ctx ends
// first, they fail with CodeStopped, and Stop returns at once with an error that has their number.
// It may be called before Start, again, and concurrently.
func (c *Client) Stop(ctx context.Context) error {
	c.mu.Lock()
	c.stopping = true
	if c.idle == nil {
		c.idle = make(chan struct{})
		c.signalIdleLocked()
	}
	quiet := c.idle
	kept := c.endGoodbyeLocked() // Who waits for the next connection is told that there is none.
	c.mu.Unlock()
	select {
	case <-quiet:
	case <-ctx.Done():
	}
	failed := c.failAll(&Error{Code: CodeStopped, Message: "the client was stopped"})
	err := c.duplex.Stop(ctx)
	if kept > 0 {
		err = errors.Join(fmt.Errorf("udsipc/rpc: %d notifications were not sent: the server has stopped", kept), err)
	}
	if failed > 0 {
		return errors.Join(fmt.Errorf("udsipc/rpc: %d calls were under way: %w", failed, context.Cause(ctx)), err)
	}
	return err
}

// admit gives a call its number, once there is a connection for it.
func (c *Client) admit(ctx context.Context, p *pendingCall, method string) (id uint64, err error) {
	for {
		if err := c.duplex.WaitConnected(ctx); err != nil {
			return 0, notConnected(ctx, err, method)
		}
		id, next, err := c.register(p)
		if next == nil {
			return id, err
		}
		select {
		case <-next:
		case <-ctx.Done():
			return 0, notConnected(ctx, nil, method)
		}
	}
}

// register gives a call its number. If the server has said goodbye, the call has to wait for the next connection.
func (c *Client) register(p *pendingCall) (id uint64, next <-chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping {
		return 0, nil, &Error{Code: CodeStopped, Message: "the client was stopped"}
	}
	if c.goodbye != nil {
		return 0, c.goodbye.ended, nil
	}
	c.enqueueing++
	c.lastID++
	if p.disconnects = c.disconnects; p.stream != nil {
		p.stream.id = c.lastID
	}
	c.calls[c.lastID] = p
	return c.lastID, nil, nil
}

// removeCall says whether the call was still waiting; it is not any more.
func (c *Client) removeCall(id uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls[id] == nil {
		return false
	}
	delete(c.calls, id)
	c.signalIdleLocked()
	return true
}

// signalIdleLocked tells Stop when there are no calls.
func (c *Client) signalIdleLocked() {
	if c.idle != nil && len(c.calls) == 0 {
		select {
		case <-c.idle:
		default:
			close(c.idle)
		}
	}
}

func (c *Client) send(body []byte) error {
	_, err := c.link.Send(body)
	return err
}

func (c *Client) sendControl(body []byte) error {
	_, err := c.link.SendControl(body)
	return err
}

func (c *Client) sendCancel(id uint64) {
	_ = sendWith(c.sendControl, typeCancel, func(b []byte) []byte { return appendID(b, id) }) // If not, this side has stopped.
}

// sendRequest sends the first message of a call or a stream.
func (c *Client) sendRequest(p *pendingCall, q *request, kind uint32, method string, data []byte) error {
	b := pool.Get().(*[]byte)
	*b = q.append(appendType((*b)[:0], kind), method, data)
	number, err := c.link.Send(*b)
	putBytes(b)
	c.recordSeq(p, q.id, number, err)
	return err
}
