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
// Code. Cancellation and deadlines travel to the handler's context, and PeerFrom tells who calls, as the kernel
// says.
//
// A call waits while the client is away, until its context ends. When a connection is lost, the calls whose requests were
// not sent wait for the next; the others fail with CodeLost, because nobody can tell whether they were handled, except for those of
// CallIdempotent, which are sent again. A server that stops reads what was sent to it and finishes it (on a Unix socket
// on Linux; elsewhere the calls that it had read).
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
)

// A Handler answers a call. request is valid until it returns; the response may be a part of it, and is copied. ctx ends
// with the call: when the caller's context does, or the connection; it carries what CallFrom and PeerFrom return.
// Handlers run at once. An error reaches the caller as an *Error: with its Code if it is one, and as CodeUnknown with its
// text otherwise.
type Handler func(ctx context.Context, request []byte) (response []byte, err error)

// An Interceptor is put around handlers, for logging, metrics or authorization: it returns a Handler that calls next, or
// does not.
type Interceptor func(next Handler) Handler

// Defaults of LimitCalls.
const (
	defaultSessionCalls = 16 << 10
	defaultServerCalls  = 64 << 10
)

// maxHeld bounds the requests that a Server holds, in bytes; one is always taken.
const maxHeld = 64 << 20

// maxIdleWorkers is how many goroutines wait for the next call.
const maxIdleWorkers = 256

// A Server answers calls. It is made by NewServer, gets its handlers before Start, and ends with Stop.
type Server struct {
	duplex             *duplex.Server
	methods            map[string]*method
	interceptors       []Interceptor
	streamInterceptors []StreamInterceptor
	wrap               sync.Once    // Puts them around the handlers.
	held               atomic.Int64 // Bytes of requests.
	sessionCalls       int
	serverCalls        int64
	running            atomic.Int64
	sessions           sync.Map // *duplex.Session to *session.
	work               chan *call
	idle               atomic.Int64
	stopped            atomic.Bool // At the end of Stop: the goroutines end.
	started            atomic.Bool
}

// NewServer returns a Server for address, with the options of udsipc.Listen. A client that does not read its responses
// holds up its own calls, and nobody else's.
func NewServer(address string, opts ...udsipc.ReaderOption) (*Server, error) {
	s := &Server{
		methods:      make(map[string]*method),
		sessionCalls: defaultSessionCalls, serverCalls: defaultServerCalls,
		work: make(chan *call),
	}
	var err error
	s.duplex, err = duplex.NewServer(address, s.handle, append([]udsipc.ReaderOption{udsipc.WithOverflow(udsipc.OverflowBlock)}, opts...)...)
	if err != nil {
		return nil, err
	}
	s.duplex.OnTooLarge(s.refuse)
	if s.duplex.Overflow() == udsipc.OverflowDropOldest {
		return nil, errDropOldest
	}
	return s, nil
}

// errDropOldest is why a constructor fails: what is dropped would be waited for.
var errDropOldest = errors.New("udsipc/rpc: WithOverflow(drop oldest) would leave calls without an end")

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

// LimitCalls bounds the calls and streams that are under way at once: of one connection (16,384 by default) and of all
// (65,536). One more fails with CodeTooManyCalls, and so does one whose request would have the Server hold more than
// 64 MiB of requests. While as many responses wait for a client that does not read, none of its calls are taken. Less than 1, and a Server that was started, panic.
func (s *Server) LimitCalls(ofConnection, ofAll int) {
	if ofConnection < 1 || ofAll < 1 || s.started.Load() {
		panic(fmt.Sprintf("udsipc/rpc: LimitCalls(%d, %d): want 1 or more, before Start", ofConnection, ofAll))
	}
	s.sessionCalls, s.serverCalls = ofConnection, int64(ofAll)
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

// Running returns how many calls and streams are under way.
func (s *Server) Running() int { return int(s.running.Load()) }

// Metrics returns a snapshot of the connections.
func (s *Server) Metrics() udsipc.ReaderMetrics { return s.duplex.Metrics() }

// Stop refuses new connections, finishes the calls under way, sends their responses, and closes the connections. When ctx
// ends first, the contexts of the handlers end, the connections are closed, and Stop returns at once. It may be called before
// Start and again. From inside a handler it can only end with ctx.
func (s *Server) Stop(ctx context.Context) error {
	err := s.duplex.Stop(ctx)
	s.dismiss()
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

// dismiss ends the goroutines that wait for a call.
func (s *Server) dismiss() {
	s.stopped.Store(true)
	for s.idle.Load() > 0 { // Each of them is about to wait, or to see that it need not.
		select {
		case s.work <- nil:
		default:
			runtime.Gosched()
		}
	}
}
