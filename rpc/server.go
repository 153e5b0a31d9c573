// SPDX-License-Identifier: Apache-2.0

package rpc

// This file is the Server: its methods, its connections, and how it stops.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/seam"
)

// A Handler handles a call. request is valid until it returns. The response may be a part of
// request; it is copied. ctx ends with the call, when the caller's context or the connection ends.
// ctx carries the values of CallFromContext and PeerFromContext. Handlers run concurrently. The
// caller receives an error as an *Error, with the text of the error and the code of CodeOf.
type Handler func(ctx context.Context, request []byte) (response []byte, err error)

// An Interceptor wraps handlers, for logging, metrics or authorization. It returns a Handler that
// may call next.
type Interceptor func(next Handler) Handler

// Defaults of SetMaxConcurrentCalls.
const (
	defaultConnCalls = 16 << 10
	defaultCalls     = 64 << 10
)

// maxIdleWorkers is the largest number of goroutines that wait for the next call.
const maxIdleWorkers = 256

// A Server handles calls. NewServer creates it; register the handlers before Start; it ends with
// Stop.
type Server struct {
	duplex             *duplex.Server
	seam               seam.Server[*duplex.ServerConn] // Of duplex.
	methods            map[string]*method
	interceptors       []Interceptor
	streamInterceptors []StreamInterceptor
	wrap               sync.Once // Applies the interceptors.
	memory             memoryLimit
	maxConnCalls       int
	maxCalls           int64
	active             atomic.Int64
	startTime          time.Time
	connStates         sync.Map // *duplex.ServerConn to *connState.
	work               chan *call
	idle               atomic.Int64
	stopped            atomic.Bool // Set at the end of Stop: the workers end.
	started            atomic.Bool
}

// NewServer returns a Server for address. It takes the options of udsipc.Listen. WithOverflow is
// OverflowBlock; any other value is an error.
//
// A client that does not read its responses delays only its own calls (SetMaxConcurrentCalls,
// SetMaxMemory). It is disconnected after 30 s (udsipc.WithStallTimeout). The send queue of one
// connection is limited by udsipc.WithMaxBufferedBytes, 16 MiB by default. All send queues together
// are limited by udsipc.WithMaxSendMemory, 128 MiB by default.
func NewServer(address string, opts ...udsipc.ReaderOption) (*Server, error) {
	s := &Server{
		methods:      make(map[string]*method),
		maxConnCalls: defaultConnCalls, maxCalls: defaultCalls,
		work: make(chan *call), startTime: time.Now(),
	}
	s.memory.limit = defaultMemory
	var err error
	s.duplex, err = duplex.NewServer(address, s.handle,
		append([]udsipc.ReaderOption{udsipc.WithOverflow(udsipc.OverflowBlock)}, opts...)...)
	if err != nil {
		return nil, err
	}
	s.seam = seam.OfServer(s.duplex).(seam.Server[*duplex.ServerConn])
	s.seam.OnTooLarge(s.onTooLarge)
	s.seam.OnStop(s.sendGoodbye)
	s.seam.PublishAs("rpc", func() any { return s.Metrics() },
		"active_calls", "request_bytes", "response_bytes", "stream_bytes")
	switch udsipc.OverflowPolicy(s.seam.Overflow()) {
	case udsipc.OverflowDropOldest:
		return nil, errDropOldest
	case udsipc.OverflowRefuse:
		return nil, errRefuse
	}
	return s, nil
}

// Errors of the constructors: a dropped or refused message would never complete its call.
var (
	errDropOldest = errors.New(
		"udsipc/rpc: WithOverflow(OverflowDropOldest) is not supported: a dropped call would never complete")
	errRefuse = errors.New("udsipc/rpc: WithOverflow(OverflowRefuse) is not supported by a " +
		"Server: a refused response would never arrive")
)

// Handle sets the handler of a method. It panics after Start, for a nil handler, and if the method
// has a handler.
func (s *Server) Handle(name string, handler Handler) {
	s.add(&method{name: name, call: handler}, handler == nil)
}

// A method is the handler of a name: call or stream is set.
type method struct {
	name   string
	call   Handler
	stream StreamHandler
}

func (s *Server) add(m *method, missing bool) {
	switch {
	case s.started.Load():
		panic("udsipc/rpc: handler for " + m.name + " after Start")
	case missing:
		panic("udsipc/rpc: no handler for " + m.name)
	case strings.IndexByte(m.name, 0) >= 0:
		panic(fmt.Sprintf("udsipc/rpc: the name of a method has a zero byte: %q", m.name))
	case s.methods[m.name] != nil:
		panic("udsipc/rpc: a second handler for " + m.name)
	}
	s.methods[m.name] = m
}

// Use adds interceptors to all handlers of calls and notifications; the first is the outermost.
// Streams have their own (UseStream). Use panics after Start.
func (s *Server) Use(interceptors ...Interceptor) {
	if s.started.Load() {
		panic("udsipc/rpc: interceptor after Start")
	}
	s.interceptors = append(s.interceptors, interceptors...)
}

// UseStream adds interceptors to all handlers of streams; the first is the outermost. It panics
// after Start.
func (s *Server) UseStream(interceptors ...StreamInterceptor) {
	if s.started.Load() {
		panic("udsipc/rpc: interceptor after Start")
	}
	s.streamInterceptors = append(s.streamInterceptors, interceptors...)
}

// SetMaxConcurrentCalls limits calls and streams in flight: per connection (default 16,384) and in
// total (65,536). Calls whose responses wait for a slow client count. Beyond the total, each
// connection may still use its share, up to twice the total, and always one call. A call over a
// limit fails with CodeResourceExhausted. While a client has its limit in flight and leaves
// responses unread, nothing is read from it. SetMaxConcurrentCalls panics below 1 and after Start.
func (s *Server) SetMaxConcurrentCalls(perConn, total int) {
	if perConn < 1 || total < 1 || s.started.Load() {
		panic(fmt.Sprintf("udsipc/rpc: SetMaxConcurrentCalls(%d, %d): want 1 or more, before Start", perConn, total))
	}
	s.maxConnCalls, s.maxCalls = perConn, int64(total)
}

// SetMaxMemory limits the memory that the Server uses for its clients, in bytes; the default is 128
// MiB. It counts requests of calls in flight with their metadata, responses that wait for space in
// the queue, and stream messages that no handler has received. One connection may use half. At the limit, another
// connection may use a sixteenth, or less with more than 16 connections, up to twice the limit;
// each may always use a thousandth. Calls, streams and responses beyond that fail with
// CodeResourceExhausted. SetMaxMemory panics below 1 and after Start.
func (s *Server) SetMaxMemory(bytes int64) {
	if bytes < 1 || s.started.Load() {
		panic(fmt.Sprintf("udsipc/rpc: SetMaxMemory(%d): want 1 or more, before Start", bytes))
	}
	s.memory.limit = bytes
}

// OnConnect sets a function that is called once for each client that has connected, before its first
// call (duplex.Server.OnConnect). f may keep c, look at c.Peer, and call c.Close to turn the client
// away. It must not call c.Send: the client knows no messages but those of calls. For the end of the
// connection, use context.AfterFunc with c.Context. OnConnect panics after Start, if f is nil, and if
// it was called before.
func (s *Server) OnConnect(f func(c *duplex.ServerConn)) {
	if s.started.Load() {
		panic("udsipc/rpc: OnConnect after Start")
	}
	s.duplex.OnConnect(f)
}

// admit counts a new call of a connection that has own calls, and reports whether it may start.
// Beyond the limit, each connection may use its share, up to twice the limit, and always one call.
func (s *Server) admit(own int) bool {
	all, share := s.active.Add(1), s.maxCalls/max(1, s.memory.sessions.Load())
	if all <= s.maxCalls || own == 0 || all <= 2*s.maxCalls && int64(own) < share {
		return true
	}
	s.active.Add(-1)
	return false
}

// Start listens and returns. Another call has no effect. After Stop it returns udsipc.ErrStopped.
func (s *Server) Start() error {
	s.wrap.Do(func() {
		s.started.Store(true)
		for _, m := range s.methods {
			for i := len(s.interceptors) - 1; i >= 0 && m.call != nil; i-- {
				m.call = s.interceptors[i](m.call)
			}
			for i := len(s.streamInterceptors) - 1; i >= 0 && m.stream != nil; i-- {
				m.stream = s.streamInterceptors[i](m.stream)
			}
		}
	})
	return s.duplex.Start()
}

// Addr returns the address that the Server listens on, or nil before Start.
func (s *Server) Addr() net.Addr { return s.duplex.Addr() }

// ActiveCalls returns the number of calls and streams in flight, and of responses that wait for
// space in a send queue.
func (s *Server) ActiveCalls() int { return int(s.active.Load()) }

// ServerMetrics is a snapshot of a Server: its connections, its calls, and the memory that it uses
// for its clients.
type ServerMetrics struct {
	udsipc.ReaderMetrics
	ActiveCalls int `json:"active_calls"` // As Server.ActiveCalls.
	// Requests of calls in flight, with their metadata. SetMaxMemory limits the sum of this and the next two.
	RequestBytes  int64 `json:"request_bytes"`
	ResponseBytes int64 `json:"response_bytes"` // Responses that wait for space in a send queue.
	// Stream messages that no handler has received, and the unused part of their buffers.
	StreamBytes int64 `json:"stream_bytes"`
}

// Metrics returns a snapshot. It may be called at any time.
func (s *Server) Metrics() ServerMetrics {
	return ServerMetrics{
		ReaderMetrics: s.duplex.Metrics(),
		ActiveCalls:   s.ActiveCalls(),
		RequestBytes:  s.memory.requests.Load(),
		ResponseBytes: s.memory.responses.Load(),
		StreamBytes:   s.memory.streams.Load(),
	}
}
