// SPDX-License-Identifier: Apache-2.0

package duplex

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"sync"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/seam"
)

// defaultQueueBytes is the default limit of a connection's send queue, in bytes. The largest
// message fits in it.
const defaultQueueBytes = 16 << 20

// stallTimeout is the default of udsipc.WithStallTimeout.
const stallTimeout = 30 * time.Second

// A Handler handles a message. The messages of one connection are handled in order, those of
// different connections concurrently. m.Data is valid until the Handler returns. ctx ends with the
// connection. An error or a panic is reported (udsipc.WithReaderErrorCallback), and the connection
// stays open. But an error that matches ErrInvalidMessage closes it: the client speaks another protocol. The
// client, and also a udsipc.Writer that has connected by mistake, is told that.
type Handler = func(ctx context.Context, s *ServerConn, m Message) error

// A Server accepts connections of Clients. NewServer creates it; it listens after Start and ends
// with Stop. All methods are safe for concurrent use.
type Server struct {
	handler   Handler
	listener  *udsipc.Listener
	seam      seam.Listener   // Of listener.
	forceCtx  context.Context // Ended when the context of Stop has ended.
	forceStop context.CancelFunc

	onConnect func(*ServerConn) // Set before Start; may be nil.

	// Set by a serverSeam; may be nil.
	onTooLarge func(*ServerConn, *seam.TooLarge)
	onStop     func(*ServerConn) // nil: Stop refuses further input at once.

	acceptLoopDone chan struct{} // Closed after the last connection is added.
	failed         chan error    // Receives the permanent error of accepting.
	stopped        chan struct{} // Closed when a Stop returns.
	stopOnce       sync.Once     // Closes stopped.

	mu       sync.Mutex // Guards the fields below.
	started  bool
	stopping bool
	connSet  map[*ServerConn]bool // The value is false until the function of OnConnect has returned.
	// All goroutines. Add is called only before stopping is set, or by one of them.
	wg sync.WaitGroup
}

// NewServer returns a Server for address. It takes the options of udsipc.Listen. The limits of a
// queue apply to each connection: udsipc.WithMaxBufferedBytes is 16 MiB by default. All queues
// together have 128 MiB (udsipc.WithMaxSendMemory). A client that reads nothing for 30 s while
// messages wait for it is disconnected (udsipc.WithStallTimeout).
func NewServer(address string, handler Handler, opts ...udsipc.ReaderOption) (*Server, error) {
	if handler == nil {
		return nil, udsipc.ErrHandlerNil
	}
	defaults := []udsipc.ReaderOption{
		udsipc.WithOverflow(udsipc.OverflowRefuse), udsipc.WithMaxBufferedBytes(defaultQueueBytes),
		udsipc.WithStallTimeout(stallTimeout),
	}
	listener, err := udsipc.NewListener(address, append(defaults, opts...)...)
	if err != nil {
		return nil, err
	}
	s := &Server{
		handler: handler, listener: listener, seam: seam.OfListener(listener),
		connSet: make(map[*ServerConn]bool), acceptLoopDone: make(chan struct{}),
		failed: make(chan error, 1), stopped: make(chan struct{}),
	}
	s.seam.TellRejected()
	s.seam.PublishAs("duplex", func() any { return s.Metrics() })
	s.forceCtx, s.forceStop = context.WithCancel(context.Background())
	return s, nil
}

// OnConnect sets a function that is called once for each client that has connected, after TLS and
// WithAuthorizer, and before its first message is handled. A message that f sends is the first that
// the client receives: Conns and Broadcast leave the connection out until f returns. f may keep c,
// and may call c.Close to turn the client away. To learn of the end of the connection, use
// context.AfterFunc with c.Context.
//
// f runs on the goroutine of the connection, concurrently with those of other connections. While it
// runs, messages of this client wait in the kernel, its disconnect is not noticed, and Stop waits.
// If f panics, the panic is reported (udsipc.ErrHandlerFailed), and the connection is closed without
// handling a message.
//
// OnConnect panics after Start, if f is nil, and if it was called before.
func (s *Server) OnConnect(f func(c *ServerConn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.started || s.stopping:
		panic("udsipc/duplex: OnConnect after Start")
	case f == nil:
		panic("udsipc/duplex: OnConnect(nil)")
	case s.onConnect != nil:
		panic("udsipc/duplex: a second OnConnect")
	}
	s.onConnect = f
}

func (s *Server) accept() {
	defer close(s.acceptLoopDone)
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			if !s.isStopping() { // Also if the program has closed the listener that it passed.
				s.failed <- err // There is room for it. The listener has reported it.
			}
			return
		}
		session := newServerConn(s, conn)
		s.mu.Lock()
		s.connSet[session] = s.onConnect == nil
		s.mu.Unlock()
		// Stop may have closed the connections before this one was added.
		if s.forceCtx.Err() != nil {
			_ = conn.Close()
		}
		s.wg.Go(session.begin) // Ends with the connection; Stop waits for it.
	}
}

// Conns returns an iterator over the connections that are open at the time of the call, and for
// which the function of OnConnect has returned.
func (s *Server) Conns() iter.Seq[*ServerConn] {
	return func(yield func(*ServerConn) bool) {
		for _, session := range s.announced() {
			if !yield(session) {
				return
			}
		}
	}
}

// announced returns the connections for which OnConnect's function has returned.
func (s *Server) announced() []*ServerConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*ServerConn, 0, len(s.connSet))
	for session, announced := range s.connSet {
		if announced {
			list = append(list, session)
		}
	}
	return list
}

// announce includes a connection in announced.
func (s *Server) announce(session *ServerConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connSet[session] = true
}

// snapshot returns all connections.
func (s *Server) snapshot() []*ServerConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*ServerConn, 0, len(s.connSet))
	for session := range s.connSet {
		list = append(list, session)
	}
	return list
}

// Broadcast sends m to every connection of Conns. It never blocks, also with OverflowBlock: a connection
// with a full queue does not get m. It returns the number of connections that got m, and an error
// that joins the errors of the others.
func (s *Server) Broadcast(m Message) (reached int, err error) {
	var errs []error
	err = m.send(func(body []byte) error {
		for _, session := range s.announced() {
			if err := session.conn.TryWriteMessage(body); err != nil {
				errs = append(errs, fmt.Errorf("%v: %w", session.Peer(), err))
			} else {
				reached++
			}
		}
		return errors.Join(errs...)
	})
	return reached, err
}

// Addr returns the address that the Server listens on, or nil before Start.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Metrics returns a snapshot of the counters of connections and received messages.
func (s *Server) Metrics() udsipc.ReaderMetrics { return s.listener.Metrics() }

// remove removes a connection that has ended from connSet.
func (s *Server) remove(session *ServerConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.connSet, session)
}
