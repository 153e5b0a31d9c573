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

// defaultQueueBytes is what a session may have queued by default, in bytes: a slow client must not cost more. The largest
// message fits in it.
const defaultQueueBytes = 16 << 20

// stallTimeout is how long a client may take nothing of what is queued for it, by default.
const stallTimeout = 30 * time.Second

// A Handler handles a message. It is called for one message of a session after the other, and for different sessions
// at once. m.Data is valid until it returns. ctx ends with the session. An error, or a panic, is reported
// (udsipc.WithReaderErrorCallback), and the session goes on.
type Handler = func(ctx context.Context, s *ServerConn, m Message) error

// A Server listens for Clients. It is made by NewServer, listens from Start on, and ends with Stop. All methods may
// be called from any goroutine.
type Server struct {
	handler   Handler
	listener  *udsipc.Listener
	seam      seam.Listener   // Of listener.
	forceCtx  context.Context // Ended when Stop does not wait any longer.
	forceStop context.CancelFunc

	// Set by a serverSeam; nil for nobody.
	onTooLarge func(*ServerConn, *seam.TooLarge)
	onStop     func(*ServerConn) // nil: what clients send is refused at once.

	acceptLoopDone chan struct{} // Closed when no session is added any more.

	mu       sync.Mutex // Guards what follows.
	started  bool
	stopping bool
	connSet  map[*ServerConn]struct{}
	wg       sync.WaitGroup // Of the goroutines. Only added to while not stopping.
}

// NewServer returns a Server for address, with the options of udsipc.Listen. The bounds of a queue are those of each session:
// udsipc.WithMaxBufferedBytes is 16 MiB by default, and that of all together 128 MiB (udsipc.WithMaxSendMemory). A client that takes nothing of what is queued for it for 30 s is left
// (udsipc.WithStallTimeout).
func NewServer(address string, handler Handler, opts ...udsipc.ReaderOption) (*Server, error) {
	if handler == nil {
		return nil, udsipc.ErrHandlerNil
	}
	defaults := []udsipc.ReaderOption{udsipc.WithOverflow(udsipc.OverflowRefuse), udsipc.WithMaxBufferedBytes(defaultQueueBytes), udsipc.WithStallTimeout(stallTimeout)}
	listener, err := udsipc.NewListener(address, append(defaults, opts...)...)
	if err != nil {
		return nil, err
	}
	s := &Server{handler: handler, listener: listener, seam: seam.OfListener(listener), connSet: make(map[*ServerConn]struct{}), acceptLoopDone: make(chan struct{})}
	s.forceCtx, s.forceStop = context.WithCancel(context.Background())
	return s, nil
}

// Start listens and returns. It may be called again; after Stop it returns udsipc.ErrStopped.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return udsipc.ErrStopped
	}
	if s.started {
		return nil
	}
	if err := s.listener.Start(); err != nil {
		return err
	}
	s.started = true
	s.wg.Go(s.accept) // Ends with the listener; Stop waits for it.
	return nil
}

func (s *Server) accept() {
	defer close(s.acceptLoopDone)
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return // The listener has reported it, or was closed.
		}
		session := newServerConn(s, conn)
		s.mu.Lock()
		s.connSet[session] = struct{}{}
		s.mu.Unlock()
		if s.forceCtx.Err() != nil { // Stop has looked for sessions to close already, or will find this one.
			_ = conn.Close()
		}
		s.wg.Go(session.run) // Ends with the connection; Stop waits for it.
	}
}

// Conns yields the sessions that there are at the moment of the call.
func (s *Server) Conns() iter.Seq[*ServerConn] {
	return func(yield func(*ServerConn) bool) {
		for _, session := range s.snapshot() {
			if !yield(session) {
				return
			}
		}
	}
}

func (s *Server) snapshot() []*ServerConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*ServerConn, 0, len(s.connSet))
	for session := range s.connSet {
		list = append(list, session)
	}
	return list
}

// Broadcast sends m to every session. It never waits, also with OverflowBlock: a session with a
// full queue does not get m. It returns the number of sessions that got m, and an error that names
// the others with their reasons.
func (s *Server) Broadcast(m Message) (reached int, err error) {
	var errs []error
	err = m.send(func(body []byte) error {
		for _, session := range s.snapshot() {
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

// Metrics returns a snapshot of the connections and of the messages that were received.
func (s *Server) Metrics() udsipc.ReaderMetrics { return s.listener.Metrics() }

// Stop stops listening and closes every session. It handles the messages that the client has sent
// (all on a Unix socket on Linux; elsewhere those that were read), and sends the queued ones, as
// long as ctx allows. Unsent messages of a client that does not read (udsipc.WithStallTimeout) are
// reported. When ctx ends first, the connections are closed, the contexts of the handlers end, and
// Stop returns the error of ctx at once. It may be called before Start and again. Within a handler
// it returns only when ctx ends.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	first, accepted := !s.stopping, s.acceptLoopDone
	if s.stopping = true; !s.started {
		accepted = nil
	}
	s.mu.Unlock()
	err := s.seam.Shutdown()
	if first && accepted != nil { // A client that is sent away earlier would be in the backlog again at once.
		select {
		case <-accepted:
		case <-ctx.Done():
		}
	}
	if first {
		for _, session := range s.snapshot() {
			session.stop()
		}
	}
	done := make(chan struct{})
	go func() { // Ends with the last handler.
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		s.forceStop()
		return err
	case <-ctx.Done():
	}
	s.forceStop()
	_ = s.listener.Close() // It does not listen any more.
	for _, session := range s.snapshot() {
		go session.conn.Close() // It may wait for its peer; run does not mind.
	}
	return fmt.Errorf("udsipc/duplex: %d sessions were still busy: %w", len(s.snapshot()), context.Cause(ctx))
}

// remove forgets a session that has ended.
func (s *Server) remove(session *ServerConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.connSet, session)
}
