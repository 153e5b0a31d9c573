// SPDX-License-Identifier: Apache-2.0

// Package rpc calls named functions of another process on the machine, any number at once over one connection, on
// top of package duplex.
//
//	server, err := rpc.NewServer("/run/app.sock")
//	server.Handle("greet", func(ctx context.Context, name []byte) ([]byte, error) {
//		return append([]byte("hello, "), name...), nil
//	})
//	client, err := rpc.NewClient("/run/app.sock")
//	response, err := client.Call(ctx, "greet", []byte("world"))
//
// Requests and responses are bytes; package codec makes them values. Every error of a call is an *Error with a
// Code. Cancellation and deadlines travel to the handler's context, and PeerFromContext tells who calls, as the kernel
// says.
//
// A call waits while the client is away, until its context ends. When a connection is lost, the calls whose requests were
// not sent wait for the next; the others fail with CodeConnectionLost, because nobody can tell whether they were handled, except for those of
// CallIdempotent, which are sent again. A server that stops tells its clients, reads what was sent to it and finishes it, over
// every transport; new calls wait for the next connection. Of a client that does not know the word (docs/PROTOCOL.md) it finishes
// what had come after a second of silence: all that was sent on a Unix socket on Linux, what it had read elsewhere.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/seam"
)

// A Handler handles a call. request is valid until it returns; the response may be a part of it,
// and is copied. ctx ends with the call, when the caller's context or the connection ends; it
// carries the values of CallFromContext and PeerFromContext. Handlers run concurrently. The caller receives an
// error as an *Error: with its Code if it is one, else as CodeUnknown with its text.
type Handler func(ctx context.Context, request []byte) (response []byte, err error)

// An Interceptor is put around handlers, for logging, metrics or authorization: it returns a Handler that calls next, or
// does not.
type Interceptor func(next Handler) Handler

// Defaults of SetMaxConcurrentCalls.
const (
	defaultConnCalls = 16 << 10
	defaultCalls     = 64 << 10
)

// maxIdleWorkers is how many goroutines wait for the next call.
const maxIdleWorkers = 256

// A Server answers calls. It is made by NewServer, gets its handlers before Start, and ends with Stop.
type Server struct {
	duplex             *duplex.Server
	seam               seam.Server[*duplex.ServerConn] // Of duplex.
	methods            map[string]*method
	interceptors       []Interceptor
	streamInterceptors []StreamInterceptor
	wrap               sync.Once // Puts them around the handlers.
	memory             memoryLimit
	maxConnCalls       int
	maxCalls           int64
	active             atomic.Int64
	connStates         sync.Map // *duplex.ServerConn to *session.
	work               chan *call
	idle               atomic.Int64
	stopped            atomic.Bool // At the end of Stop: the goroutines end.
	started            atomic.Bool
}

// NewServer returns a Server for address, with the options of udsipc.Listen; WithOverflow is OverflowBlock, and nothing else. A
// client that does not read its responses holds up its own calls, and nobody else's (SetMaxConcurrentCalls, SetMaxMemory); after 30 s
// (udsipc.WithStallTimeout) it is left. What is queued for one connection is bounded by udsipc.WithMaxBufferedBytes, 16 MiB
// by default, and for all together by udsipc.WithMaxSendMemory, 128 MiB.
func NewServer(address string, opts ...udsipc.ReaderOption) (*Server, error) {
	s := &Server{
		methods:      make(map[string]*method),
		maxConnCalls: defaultConnCalls, maxCalls: defaultCalls,
		work: make(chan *call),
	}
	s.memory.limit = defaultMemory
	var err error
	s.duplex, err = duplex.NewServer(address, s.handle, append([]udsipc.ReaderOption{udsipc.WithOverflow(udsipc.OverflowBlock)}, opts...)...)
	if err != nil {
		return nil, err
	}
	s.seam = seam.OfServer(s.duplex).(seam.Server[*duplex.ServerConn])
	s.seam.OnTooLarge(s.onTooLarge)
	s.seam.OnStop(s.sendGoodbye)
	switch udsipc.OverflowPolicy(s.seam.Overflow()) {
	case udsipc.OverflowDropOldest:
		return nil, errDropOldest
	case udsipc.OverflowRefuse:
		return nil, errRefuse
	}
	return s, nil
}

// Why a constructor fails: what is dropped or refused would be waited for.
var (
	errDropOldest = errors.New("udsipc/rpc: WithOverflow(OverflowDropOldest) is not supported: a dropped call would never complete")
	errRefuse     = errors.New("udsipc/rpc: WithOverflow(OverflowRefuse) is not supported by a Server: a refused response would never arrive")
)

// Handle sets what answers calls of a method. It panics if the Server was started, or the method has a handler.
func (s *Server) Handle(name string, handler Handler) {
	s.add(&method{name: name, call: handler}, handler == nil)
}

// A method is what answers to a name: one of the two.
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
	case s.methods[m.name] != nil:
		panic("udsipc/rpc: a second handler for " + m.name)
	}
	s.methods[m.name] = m
}

// Use puts interceptors around all handlers of calls and notifications; the first is the outermost. Streams have their own
// (UseStream). It panics if the Server was started.
func (s *Server) Use(interceptors ...Interceptor) {
	if s.started.Load() {
		panic("udsipc/rpc: interceptor after Start")
	}
	s.interceptors = append(s.interceptors, interceptors...)
}

// UseStream puts interceptors around all handlers of streams; the first is the outermost. It panics if the Server was started.
func (s *Server) UseStream(interceptors ...StreamInterceptor) {
	if s.started.Load() {
		panic("udsipc/rpc: interceptor after Start")
	}
	s.streamInterceptors = append(s.streamInterceptors, interceptors...)
}

// SetMaxConcurrentCalls limits calls and streams in flight: per connection (default 16,384) and in total
// (65,536). Calls whose responses wait for a slow client count. Beyond the total, each connection
// may still use its share, up to twice the total, and always one call. A call over a limit fails
// with CodeResourceExhausted. While a client has its limit in flight and leaves responses unread,
// nothing is read from it. SetMaxConcurrentCalls panics below 1 and after Start.
func (s *Server) SetMaxConcurrentCalls(ofConnection, ofAll int) {
	if ofConnection < 1 || ofAll < 1 || s.started.Load() {
		panic(fmt.Sprintf("udsipc/rpc: SetMaxConcurrentCalls(%d, %d): want 1 or more, before Start", ofConnection, ofAll))
	}
	s.maxConnCalls, s.maxCalls = ofConnection, int64(ofAll)
}

// SetMaxMemory limits the memory that the Server uses for its clients, in bytes; the default is 128
// MiB. It counts requests of calls in flight, responses that wait for space in the queue, and
// stream messages that no handler has received. One connection may use half. At the limit, another
// connection may use a sixteenth, or less with more than 16 connections, up to twice the limit;
// each may always use a thousandth. Calls, streams and responses beyond that fail with
// CodeResourceExhausted. SetMaxMemory panics below 1 and after Start.
func (s *Server) SetMaxMemory(bytes int64) {
	if bytes < 1 || s.started.Load() {
		panic(fmt.Sprintf("udsipc/rpc: SetMaxMemory(%d): want 1 or more, before Start", bytes))
	}
	s.memory.limit = bytes
}

// admit counts one more call under way, of a connection that has own, if there is room for it: beyond the limit each
// connection may have its share until there are twice as many, and always one.
func (s *Server) admit(own int) bool {
	all, share := s.active.Add(1), s.maxCalls/max(1, s.memory.sessions.Load())
	if all <= s.maxCalls || own == 0 || all <= 2*s.maxCalls && int64(own) < share {
		return true
	}
	s.active.Add(-1)
	return false
}

// Start listens and returns. It may be called again; after Stop it returns udsipc.ErrStopped.
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

// ActiveCalls returns how many calls and streams are under way.
func (s *Server) ActiveCalls() int { return int(s.active.Load()) }

// ServerMetrics is a snapshot of a Server: of its connections, and of what it does and holds for its clients.
type ServerMetrics struct {
	udsipc.ReaderMetrics
	ActiveCalls   int   `json:"active_calls"`   // Calls and streams under way, and responses that wait (SetMaxConcurrentCalls).
	RequestBytes  int64 `json:"request_bytes"`  // Requests of calls under way. This and the next two are bounded by SetMaxMemory.
	ResponseBytes int64 `json:"response_bytes"` // What waits for room in the queue of its connection.
	StreamBytes   int64 `json:"stream_bytes"`   // What has arrived for streams and was not received, and the memory that they keep for more.
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

// Stop rejects new connections, completes the calls in flight, sends their responses, and closes
// the connections. When ctx ends first, the contexts of the handlers end, the connections are
// closed, and Stop returns at once. It may be called before Start and again. Within a handler it
// returns only when ctx ends.
func (s *Server) Stop(ctx context.Context) error {
	err := s.duplex.Stop(ctx)
	s.stopWorkers()
	return err
}

// serve answers a call, and then others.
func (s *Server) serve(c *call) {
	for {
		c.run()
		if s.idle.Add(1) > maxIdleWorkers || s.stopped.Load() {
			s.idle.Add(-1)
			return
		}
		c = <-s.work
		if s.idle.Add(-1); c == nil {
			return
		}
	}
}

// stopWorkers ends the goroutines that wait for a call.
func (s *Server) stopWorkers() {
	s.stopped.Store(true)
	for s.idle.Load() > 0 { // Each of them is about to wait, or to see that it need not.
		select {
		case s.work <- nil:
		default:
			runtime.Gosched()
		}
	}
}
