// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/seam"
)

// maxQueuedRequests is the default of udsipc.WithMaxBufferedWrites. udsipc.WithMaxBufferedBytes
// applies too.
const maxQueuedRequests = 1 << 20

// A Client calls the methods of a Server. NewClient creates it; it connects after Start, reconnects
// after a disconnect, and ends with Stop. All methods are safe for concurrent use.
type Client struct {
	duplex *duplex.Client
	link   seam.Link // Of duplex.

	keepMessage func() seam.Buffer // Of link, bound once.
	output      output             // Of streams.

	// With interceptors (Use, UseStream), else nil.
	interceptors       []ClientInterceptor
	streamInterceptors []ClientStreamInterceptor
	plain, idempotent  CallFunc
	open               OpenFunc
	started            atomic.Bool // Start was called.

	failFast    atomic.Bool   // Of all calls.
	disconnects atomic.Uint64 // Number of disconnects. It changes with mu held.

	mu         sync.Mutex // Guards the fields below.
	lastID     uint64
	calls      map[uint64]*pendingCall
	stopping   bool
	idle       chan struct{} // Closed when there are no calls; nil until Stop.
	enqueueing int           // Calls and notifications that are being queued.
	goodbye    *goodbyeState // Set after the server's goodbye on this connection, else nil.
	sentAtLoss uint64        // SentSeq at the last disconnect.
}

// A pendingCall is a call without a response yet.
type pendingCall struct {
	done     chan struct{} // One slot; filled when the next three fields are set.
	response []byte
	err      *Error
	retry    bool // The call is to be sent again.

	idempotent  bool
	ctx         context.Context // Of the caller.
	disconnects uint64          // Client.disconnects when it was registered.
	seq         uint64          // Of its message; 0 while not known.
	abandoned   bool            // It failed before its message was queued: cancel it then.
	stopWait    func()          // Ends its wait for space in the queue, if it fails fast; may be nil.
	stream      *Stream         // nil for a call.
}

var pendingPool = sync.Pool{New: func() any { return &pendingCall{done: make(chan struct{}, 1)} }}

// NewClient returns a Client for the Server at address. It takes the options of duplex.NewClient.
// udsipc.OverflowDropOldest is an error.
func NewClient(address string, opts ...udsipc.WriterOption) (*Client, error) {
	c := &Client{calls: make(map[uint64]*pendingCall)}
	opts = append([]udsipc.WriterOption{udsipc.WithMaxBufferedWrites(maxQueuedRequests)}, opts...)
	var err error
	c.duplex, err = duplex.NewHandlerClient(address, c.handle, opts...)
	if err != nil {
		return nil, err
	}
	c.link = seam.OfClient(c.duplex)
	c.keepMessage = c.link.KeepMessage
	c.output = output{c.link.EnqueueBuffer, c.link.WriteQueued, c.send, c.sendControl, c.sendControl}
	if udsipc.OverflowPolicy(c.link.Overflow()) == udsipc.OverflowDropOldest {
		return nil, errDropOldest
	}
	c.link.OnDisconnect(c.onDisconnect)
	c.link.OnTooLarge(c.onTooLarge)
	c.link.PublishAs("rpc-client", func() any { return c.Metrics() }, "active_calls")
	return c, nil
}

// Start begins to connect and returns at once. Another call has no effect. After Stop it returns
// udsipc.ErrStopped.
func (c *Client) Start() error {
	c.started.Store(true)
	return c.duplex.Start()
}

// WaitConnected blocks until the Client is connected, or ctx ends. It is not needed before a call:
// calls wait too, unless they fail fast (SetFailFast).
func (c *Client) WaitConnected(ctx context.Context) error { return c.duplex.WaitConnected(ctx) }

// Peer returns the identity of the server. It returns false while the Client is disconnected.
func (c *Client) Peer() (udsipc.Peer, bool) { return c.duplex.Peer() }

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
	idle := c.idle
	kept := c.endGoodbyeLocked() // Calls that wait for the next connection fail.
	c.mu.Unlock()
	watched := c.link.WatchStop(ctx, func() string { return fmt.Sprintf("%d calls are under way", c.callCount()) })
	select {
	case <-idle:
	case <-ctx.Done():
	}
	watched()
	failed := c.failAll(&Error{Code: CodeStopped, Message: "the client was stopped"})
	err := c.duplex.Stop(ctx)
	if kept > 0 {
		err = errors.Join(fmt.Errorf("udsipc/rpc: %d notifications were not sent: the server has stopped", kept), err)
	}
	if failed > 0 {
		return errors.Join(fmt.Errorf("udsipc/rpc: %d calls were under way: %w", failed, seam.EndOf(ctx)), err)
	}
	return err
}

// Close is Stop with a context that ends after udsipc.WithCloseTimeout, 5 s by default. It may be called
// again. It implements io.Closer.
func (c *Client) Close() error {
	ctx, cancel := c.link.CloseContext()
	defer cancel()
	return c.Stop(ctx)
}

// register gives a call its number. After the server's goodbye it returns a channel to wait for
// instead: the next connection. The error may be errDisconnected.
func (c *Client) register(p *pendingCall) (id uint64, next <-chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping {
		return 0, nil, &Error{Code: CodeStopped, Message: "the client was stopped"}
	}
	if c.goodbye != nil {
		return 0, c.goodbye.ended, nil
	}
	if p.disconnects != c.disconnects.Load() {
		return 0, nil, errDisconnected
	}
	c.enqueueing++
	if c.lastID++; p.stream != nil {
		p.stream.id = c.lastID
	}
	c.calls[c.lastID] = p
	return c.lastID, nil, nil
}

// ClientMetrics is a snapshot of a Client. Its messages are requests, notifications, messages of streams, and what
// controls them.
type ClientMetrics struct {
	udsipc.WriterMetrics
	ActiveCalls int `json:"active_calls"` // Calls and open streams.
}

// Metrics returns a snapshot. It may be called at any time.
func (c *Client) Metrics() ClientMetrics {
	return ClientMetrics{WriterMetrics: c.duplex.Metrics(), ActiveCalls: c.callCount()}
}

// callCount returns the number of calls in flight.
func (c *Client) callCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.calls)
}

// removeCall removes a call, and reports whether it was still pending.
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

// signalIdleLocked wakes Stop when there are no calls.
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
	// An error means that this Client has stopped.
	_ = sendWith(c.sendControl, typeCancel, func(b []byte) []byte { return appendID(b, id) })
}

// sendRequest sends the first message of a call or a stream.
func (c *Client) sendRequest(p *pendingCall, q *request, kind uint32, method, metadata string, data []byte) error {
	b := pool.Get().(*[]byte)
	*b = q.append(appendType((*b)[:0], kind), method, metadata, data)
	ctx, stop := c.waitContext(p)
	number, err := c.link.SendContext(ctx, *b)
	stop()
	putBytes(b)
	c.recordSeq(p, q.id, number, err)
	return err
}
