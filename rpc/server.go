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
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

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

// A session is what a Server knows of a connection.
type session struct {
	mu        sync.Mutex // Guards what follows.
	calls     map[uint64]*call
	answering int       // Calls whose responses are being sent.
	answered  sync.Cond // One less, or the end.
	over      bool
}

func (s *Server) session(from *duplex.Session) *session {
	if known, ok := s.sessions.Load(from); ok {
		return known.(*session)
	}
	fresh := &session{calls: make(map[uint64]*call)}
	fresh.answered.L = &fresh.mu
	s.sessions.Store(from, fresh) // Messages of a session come one after the other.
	context.AfterFunc(from.Context(), func() {
		s.sessions.Delete(from)
		fresh.end()
	})
	context.AfterFunc(from.Incoming(), fresh.endStreams)
	return fresh
}

// endStreams tells the streams of a session that nothing more comes for them.
func (s *session) endStreams() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if c.stream != nil {
			c.stream.endInput()
		}
	}
}

// end cancels all calls of a session.
func (s *session) end() {
	s.mu.Lock()
	s.over = true
	s.answered.Broadcast()
	calls := make([]*call, 0, len(s.calls))
	for _, c := range s.calls {
		calls = append(calls, c)
	}
	s.mu.Unlock()
	for _, c := range calls {
		c.cancel(context.Canceled)
	}
}

// handle takes one message of a session.
func (s *Server) handle(_ context.Context, from *duplex.Session, m duplex.Message) error {
	switch m.Type {
	case typeRequest, typeOpen:
		return s.begin(from, m)
	case typeNotify:
		return s.notify(from, m.Data)
	}
	id, rest, err := parseID(m.Data)
	if err != nil {
		return err
	}
	session := s.session(from)
	session.mu.Lock()
	c := session.calls[id]
	session.mu.Unlock()
	if c == nil {
		return nil // It has ended, which the client did not know.
	}
	switch m.Type {
	case typeCancel:
		c.cancel(context.Canceled)
		return nil
	case typeData, typeCredit, typeEnd, typeError:
		if c.stream == nil {
			return fmt.Errorf("%w: type %d for a call that is no stream", errMalformed, m.Type)
		}
		return c.stream.take(m.Type, rest)
	}
	return fmt.Errorf("%w: type %d", errMalformed, m.Type)
}

// awaitReader waits while the client leaves too many responses unread.
func (s *session) awaitReader(limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.answering >= limit && !s.over {
		s.answered.Wait()
	}
}

// refuse tells the caller that its request is over the limit.
func (s *Server) refuse(from *duplex.Session, e *udsipc.TooLargeError) {
	r := reader{rest: e.Head}
	if kind := r.number(); r.bad || kind != typeRequest && kind != typeOpen && kind != typeData {
		return
	}
	id, _, err := parseID(r.rest)
	if err != nil {
		return
	}
	why := &Error{Code: CodeTooLarge, Message: fmt.Sprintf("a request of %d bytes, the limit is %d (udsipc.WithMaxMessageSize of the server)", e.Size, e.Limit)}
	session := s.session(from)
	session.mu.Lock()
	c := session.calls[id]
	session.mu.Unlock()
	if c != nil && c.stream != nil {
		c.stream.fail(why) // Its handler returns, and says so.
		return
	}
	_ = (&call{from: from, id: id}).fail(why) // If not, the connection has ended.
}

// begin starts a call or a stream.
func (s *Server) begin(from *duplex.Session, m duplex.Message) error {
	q, err := parseRequest(m.Data)
	if err != nil {
		return err
	}
	session := s.session(from)
	session.awaitReader(s.sessionCalls)
	c := &call{server: s, from: from, id: q.id, session: session, method: s.methods[string(q.method)]}
	if c.method == nil || m.Type == typeRequest && c.method.call == nil || m.Type == typeOpen && c.method.stream == nil {
		return c.fail(&Error{Code: CodeUnknownMethod, Message: fmt.Sprintf("%q", q.method)})
	}
	if m.Type == typeOpen {
		r := reader{rest: q.data}
		c.stream = newStream(c.id, c, from.SendBody, from.MaxMessageSize(), int(min(r.number(), maxWindow)))
	}
	c.size = int64(len(q.data))
	if full := c.register(); full != nil { // From here on it can be cancelled.
		return c.fail(full)
	}
	if q.timeout > 0 {
		c.expire(q.timeout)
	}
	if m.Type == typeRequest {
		c.request = getBytes(q.data)
	}
	if from.Context().Err() != nil {
		c.cancel(context.Canceled) // The session has ended without it.
	}
	if c.stream != nil && from.Incoming().Err() != nil {
		c.stream.endInput()
	}
	from.Hold()
	select {
	case s.work <- c:
	default:
		go s.serve(c) // Ends when there is nothing to do, or dismiss does it.
	}
	return nil
}

// notify runs the handler of a method whose caller wants no response, in the order of the messages.
func (s *Server) notify(from *duplex.Session, data []byte) error {
	name, data, err := parseNotification(data)
	if err != nil {
		return err
	}
	m := s.methods[string(name)]
	if m == nil || m.call == nil {
		return &Error{Code: CodeUnknownMethod, Message: fmt.Sprintf("%q", name)}
	}
	c := &call{server: s, from: from, method: m}
	stop := context.AfterFunc(from.Context(), func() { c.cancel(context.Canceled) })
	defer stop()
	defer c.cancel(context.Canceled)
	_, err = m.call(c, data)
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

// A call is one that is under way, and the context of its handler.
type call struct {
	server  *Server
	from    *duplex.Session
	session *session
	id      uint64
	method  *method
	stream  *Stream
	request *[]byte
	size    int64 // Of the request.

	deadline time.Time // Zero: none.
	timer    *time.Timer

	mu    sync.Mutex // Guards what follows.
	done  chan struct{}
	cause error
}

// register makes the call one of its session's, if there is room.
func (c *call) register() *Error {
	s := c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.calls[c.id] != nil:
		return &Error{Code: CodeInvalidArgument, Message: fmt.Sprintf("call %d is under way already", c.id)}
	case len(s.calls) >= c.server.sessionCalls:
		return &Error{Code: CodeTooManyCalls, Message: fmt.Sprintf("%d are under way on this connection (LimitCalls)", len(s.calls))}
	case c.server.running.Add(1) > c.server.serverCalls:
		c.server.running.Add(-1)
		return &Error{Code: CodeTooManyCalls, Message: fmt.Sprintf("%d are under way (LimitCalls)", c.server.serverCalls)}
	}
	if held := c.server.held.Add(c.size); held > maxHeld && held > c.size {
		c.server.held.Add(-c.size)
		c.server.running.Add(-1)
		return &Error{Code: CodeTooManyCalls, Message: fmt.Sprintf("the requests under way have %d bytes", held)}
	}
	s.calls[c.id] = c
	return nil
}

// errGone is what became of a handler that ended its goroutine.
var errGone = &Error{Code: CodePanic, Message: "the handler called runtime.Goexit"}

// run calls the handler and sends what it returns.
func (c *call) run() {
	var response []byte
	err := errGone
	defer func() { c.finish(response, err) }()
	response, err = c.invoke()
}

// finish sends what the handler has returned.
func (c *call) finish(response []byte, err *Error) {
	defer c.from.Release()
	if c.timer != nil {
		c.timer.Stop()
	}
	s := c.session
	s.mu.Lock()
	delete(s.calls, c.id)
	s.answering++
	s.mu.Unlock()
	c.server.running.Add(-1)
	switch {
	case err == nil && c.stream == nil:
		c.answer(response)
	case err == nil:
		err = c.stream.finish()
		fallthrough
	case err != nil:
		if err != nil {
			_ = c.fail(err) // If not, the connection has ended, and the call with it.
		}
	}
	s.mu.Lock()
	s.answering--
	s.answered.Signal()
	s.mu.Unlock()
	c.cancel(context.Canceled) // What the handler left behind.
	c.server.held.Add(-c.size)
	if c.request != nil {
		putBytes(c.request)
	}
}

// answer sends the response.
func (c *call) answer(response []byte) {
	err := sendWith(c.from.SendBody, typeResponse, func(b []byte) []byte { return append(appendID(b, c.id), response...) })
	if errors.Is(err, udsipc.ErrMessageTooLarge) {
		_ = c.fail(&Error{Code: CodeTooLarge, Message: fmt.Sprintf("a response of %d bytes", len(response))})
	}
	// Otherwise the connection has ended, and the call with it.
}

func (c *call) invoke() (response []byte, failed *Error) {
	defer func() {
		if value := recover(); value != nil {
			c.server.duplex.Report(udsipc.OpHandle, c.from.Peer(), fmt.Errorf("%w: %s: panic: %v\n%s", udsipc.ErrHandlerFailed, c.method.name, value, debug.Stack()))
			failed = &Error{Code: CodePanic, Message: fmt.Sprint(value)}
		}
	}()
	var err error
	if c.stream != nil {
		err = c.method.stream(c, c.stream)
	} else {
		response, err = c.method.call(c, *c.request)
	}
	if err == nil {
		return response, nil
	}
	if cause := c.Err(); cause != nil && !errors.As(err, new(*Error)) {
		err = cause // The handler returned because its context ended, whatever it says.
	}
	return nil, asError(err)
}

// fail sends an error, with as much of its text as there is room for.
func (c *call) fail(e *Error) error {
	text := e.Message
	for {
		err := sendWith(c.from.SendBody, typeError, func(b []byte) []byte { return appendError(b, c.id, &Error{Code: e.Code, Message: text}) })
		if text == "" || !errors.Is(err, udsipc.ErrMessageTooLarge) {
			return err
		}
		text = strings.ToValidUTF8(text[:min(len(text)/2, maxErrorText)], "")
	}
}

// maxErrorText is how much is left at the most of a text that is too long.
const maxErrorText = 1 << 10

// expire ends the call after a time.
func (c *call) expire(timeout time.Duration) {
	c.deadline = time.Now().Add(timeout)
	c.timer = time.AfterFunc(timeout, func() { c.cancel(context.DeadlineExceeded) })
}

// cancel ends the context.
func (c *call) cancel(cause error) {
	c.mu.Lock()
	if c.cause == nil {
		c.cause = cause
		if c.done != nil {
			close(c.done)
		}
	}
	c.mu.Unlock()
	if c.stream != nil {
		c.stream.fail(cause)
	}
}

// Deadline is that of the caller's context.
func (c *call) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Done returns a channel that is closed when the call ends. It is made when it is first asked for.
func (c *call) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.cause != nil {
			close(c.done)
		}
	}
	return c.done
}

// Err returns why the context has ended.
func (c *call) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// callKey is what a handler's context has the call under.
type callKey struct{}

// Value returns the call, or what the context of the session has.
func (c *call) Value(key any) any {
	if key == (callKey{}) {
		return c
	}
	return c.from.Context().Value(key)
}

// CallInfo is what a handler can know of its call.
type CallInfo struct {
	Method  string
	ID      uint64          // The caller's number of it; 0 for a notification.
	Session *duplex.Session // Which connection it came on.
}

// CallFrom returns what a handler's context says of the call; false for any other context.
func CallFrom(ctx context.Context) (CallInfo, bool) {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return CallInfo{}, false
	}
	return CallInfo{Method: c.method.name, ID: c.id, Session: c.from}, true
}

// PeerFrom returns who makes the call of a handler's context; false for any other context.
func PeerFrom(ctx context.Context) (udsipc.Peer, bool) {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return udsipc.Peer{}, false
	}
	return c.from.Peer(), true
}
