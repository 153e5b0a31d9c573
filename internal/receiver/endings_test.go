// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// A scene is one Writer, one Reader that ends its connection, and the Reader that follows.
type scene struct {
	*testing.T
	on     *ipctest.Route
	reader *udsipc.Reader
	writer *udsipc.Writer
	first  net.Conn         // The connection that fills the Reader.
	link   *ipctest.SimLink // The connection that stalls.
	gate   chan struct{}    // Handlers wait for it.
	open   func()           // Opens it.

	mu    sync.Mutex
	calls map[uint64]int // How often each message was handled.
}

const (
	sceneMessages = 500 // As many as a socket holds; and more than the buffer of the Reader does.
	sceneSize     = 100
)

// An ending is a way in which a Reader ends a connection.
type ending struct {
	name    string
	applies func(on *ipctest.Route) bool // nil: everywhere.
	reader  []udsipc.ReaderOption
	writer  func(s *scene) []udsipc.WriterOption
	first   string         // Written before the others.
	handle  func(n uint64) // What the handler does besides.
	silent  bool           // Nothing is written before the end.
	before  func(s *scene) // Comes before the Writer; nil for nothing.
	end     func(s *scene) // Has the Reader end the connection, and returns once it cannot be avoided.
	exact   bool           // Nothing may be lost in plain mode either.
	loses   uint64         // Messages that cannot be delivered to this Reader, and are said to be lost.
	read    bool           // What was read and not handled is lost: the Reader died.
	useless bool           // The Writer can never reach a Reader.
}

// endings are all ways in which a Reader ends a connection.
var endings = []ending{
	{name: "stop", exact: true, end: func(s *scene) {
		go s.reader.Stop(s.Context())
		ipctest.Until(s, "Stop has begun", func() bool { return errors.Is(s.reader.Start(), udsipc.ErrStopped) })
	}},
	{name: "idle", exact: true,
		reader: []udsipc.ReaderOption{udsipc.WithInactivityTimeout(20 * time.Millisecond)},
		end: func(s *scene) {
			s.open()
			ipctest.Until(s, "it was idle", func() bool { return s.reader.Metrics().IdleClosed > 0 })
			s.write(sceneMessages, 1) // It is about to be told, or has been.
		}},
	// A session has begun.
	{name: "first message timeout", exact: true, silent: true,
		applies: func(on *ipctest.Route) bool { return !on.Acknowledged },
		reader:  []udsipc.ReaderOption{udsipc.WithFirstMessageTimeout(20 * time.Millisecond)}, end: func(s *scene) {
			ipctest.Until(s, "the first message did not come", func() bool { return s.reader.Metrics().IdleClosed > 0 })
			s.write(0, sceneMessages)
		}},
	{name: "too large", exact: true, loses: 1, first: string(ipctest.Number(1<<63, 2*sceneSize)),
		reader: []udsipc.ReaderOption{udsipc.WithMaxMessageSize(sceneSize)}, end: func(s *scene) {
			// In a session the welcome tells, and the message is not sent.
			ipctest.Until(s, "it was met", func() bool {
				return s.reader.Metrics().TooLarge > 0 || s.writer.Metrics().Undelivered > 0
			})
		}},
	{name: "full", exact: true, silent: true,
		reader: []udsipc.ReaderOption{udsipc.WithMaxConnections(1)}, before: func(s *scene) {
			s.first = s.on.Dial(s)
			ipctest.Until(s, "it is full", func() bool { return s.reader.Metrics().Connections == 1 })
		}, end: func(s *scene) {
			ipctest.Until(s, "it was refused", func() bool { return s.reader.Metrics().Refused > 0 })
			s.write(0, sceneMessages)
			s.first.Close()
		}},
	{name: "unauthorized", reader: []udsipc.ReaderOption{
		udsipc.WithAuthorizer(func(udsipc.Peer) error { return ipctest.ErrNotAllowed }),
	}, end: func(s *scene) {
		ipctest.Until(s, "it was refused", func() bool { return s.reader.Metrics().Unauthorized > 0 })
	}},
	{name: "malformed", writer: sendFirst(bytes.Repeat([]byte{0xff}, 11)), end: func(s *scene) {
		ipctest.Until(s, "it was met", func() bool { return s.reader.Metrics().Malformed > 0 })
	}},
	{name: "killed", read: true, end: func(s *scene) {
		ctx, cancel := context.WithCancel(s.Context())
		cancel()
		_ = s.reader.Stop(ctx) // It does not end well.
	}},
	{name: "certificate of nobody", useless: true,
		applies: func(on *ipctest.Route) bool { return on.Secure },
		writer: func(s *scene) []udsipc.WriterOption {
			own, _ := s.on.Configs(s)
			_, config := ipctest.NewAuthority(s).Configs(s)
			config.RootCAs = own.ClientCAs // It trusts the Reader, which does not trust it.
			return []udsipc.WriterOption{udsipc.WithTLS(config), udsipc.WithDialer(s.on.Connect)}
		}, end: func(s *scene) {
			ipctest.Until(s, "it was refused", func() bool { return s.reader.Metrics().HandshakeErrors > 0 })
		}},
	{name: "no TLS", useless: true, applies: func(on *ipctest.Route) bool { return on.Secure },
		writer: func(s *scene) []udsipc.WriterOption {
			return []udsipc.WriterOption{udsipc.WithDialer(s.on.Connect)}
		}, end: func(s *scene) {
			ipctest.Until(s, "it was refused", func() bool { return s.reader.Metrics().HandshakeErrors > 0 })
		}},
}

// stalledEnding is a message that is not there whole in time: the network takes ten bytes of it and no more.
var stalledEnding = ending{name: "message timeout", exact: true,
	applies: func(on *ipctest.Route) bool { return !on.Secure && !on.Acknowledged },
	before: func(s *scene) {
		s.open()
		s.on.Net.BreakFirst = func(l *ipctest.SimLink) {
			l.Room(0, 10)
			l.Hold(0, true)
			s.link = l
		}
	}, end: func(s *scene) {
		synctest.Wait()
		s.link.Room(0, 0)
		s.link.Hold(0, false)
		ipctest.Until(s, "it was too slow", func() bool { return s.reader.Metrics().TooSlow > 0 })
		s.link.Room(0, ipctest.SimCapacity)
	}, reader: []udsipc.ReaderOption{udsipc.WithMessageTimeout(5 * time.Second)}}

// sendFirst has these bytes sent on the first connection, before the Writer gets it.
func sendFirst(b []byte) func(*scene) []udsipc.WriterOption {
	return func(s *scene) []udsipc.WriterOption {
		connect, sent := s.on.ConnectSecurely(s), false
		return []udsipc.WriterOption{udsipc.WithDialer(func(ctx context.Context) (net.Conn, error) {
			conn, err := connect(ctx)
			if err == nil && !sent {
				sent = true
				_, err = conn.Write(b)
			}
			return conn, err
		})}
	}
}

// TestReader_EveryEnd_AccountsForAllMessages: whichever way a Reader ends a connection, over
// whichever transport, no plain message is lost in silence, and no acknowledged one at all.
func TestReader_EveryEnd_AccountsForAllMessages(t *testing.T) {
	t.Parallel()
	for _, e := range endings {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			ipctest.OverModes(t, func(t *testing.T, on *ipctest.Route) {
				t.Parallel()
				e.run(t, on)
			})
		})
	}
}

// TestReader_EveryEndInMemory_AccountsForAllMessages is TestReader_EveryEnd_AccountsForAllMessages
// over connections of which nothing is known, under a fake clock.
func TestReader_EveryEndInMemory_AccountsForAllMessages(t *testing.T) {
	t.Parallel()
	for _, e := range append(endings, stalledEnding) {
		t.Run(e.name, func(t *testing.T) { ipctest.OverMemory(t, e.run) })
	}
}

func (e ending) run(t *testing.T, on *ipctest.Route) {
	if e.applies != nil && !e.applies(on) {
		t.Skip("does not exist here")
	}
	s := &scene{T: t, on: on, gate: make(chan struct{}), calls: map[uint64]int{}}
	s.open = sync.OnceFunc(func() { close(s.gate) })
	defer s.open()
	s.reader = on.StartReader(t, s.handler(e.handle), append(e.reader, udsipc.WithReadBufferSize(16<<10))...)
	if e.before != nil {
		e.before(s)
	}
	s.startWriter(e)
	e.end(s)
	s.open()
	ipctest.Until(t, "the Writer knows", func() bool {
		return e.loses > 0 && on.Acknowledged || s.writer.Metrics().LostConnections+s.writer.Metrics().DialErrors > 0
	})
	s.stopReader(e.read)
	handled, twice := s.counts()
	if e.read {
		handled = max(handled, s.reader.Metrics().ReceivedBytes/(sceneSize+1))
	}
	ipctest.CheckAccounting(t, s.writer, handled)
	if e.exact && !on.Acknowledged {
		s.checkExact(e, handled)
	}
	if e.useless {
		return
	}
	s.follow(e, handled, twice)
}

// follow has another Reader take what is left.
func (s *scene) follow(e ending, handled, twice uint64) {
	before := s.writer.Metrics()
	second := s.on.StartReader(s, s.handler(nil))
	ipctest.StopAndTell(s, s.writer)
	ipctest.Stop(s, second)
	total, again := s.counts()
	ipctest.CheckAccounting(s, s.writer, max(handled, total-min(total, before.Queued))+before.Queued)
	m := s.writer.Metrics()
	switch {
	case s.on.Acknowledged && total+m.Undelivered != m.Accepted:
		s.Errorf("%d messages handled of %d acknowledged: %+v", total, m.Accepted, m)
	case s.on.Wrapped && total+m.PossiblyLost == m.Accepted:
	case e.exact && total+e.loses != m.Accepted:
		s.Errorf("%d messages handled of %d: %+v", total, m.Accepted, m)
	case again > 0 && !(s.on.Acknowledged && !e.exact):
		s.Errorf("%d messages were handled twice", again-twice)
	}
}

// checkExact fails unless each message was handled, is queued, or was refused and said to be lost.
func (s *scene) checkExact(e ending, handled uint64) {
	s.Helper()
	m := s.writer.Metrics()
	if s.on.Wrapped && handled+m.Queued+m.PossiblyLost == m.Accepted {
		return // A listener of unknown kind cannot be closed without a loss to who connects in that moment. It is told.
	}
	if m.PossiblyLost+m.Undelivered != e.loses || handled+m.Queued+e.loses != m.Accepted {
		s.Errorf("%d messages handled and %d queued of %d, want no loss but of %d: %+v", handled,
			m.Queued, m.Accepted, e.loses, m)
	}
}

func (s *scene) handler(also func(n uint64)) udsipc.MessageHandler {
	var calls atomic.Uint64
	return func(data []byte) error {
		<-s.gate
		s.mu.Lock()
		s.calls[ipctest.NumberOf(data)]++
		s.mu.Unlock()
		if also != nil {
			also(calls.Add(1))
		}
		return nil
	}
}

// counts returns how many messages were handled, and how many more than once.
func (s *scene) counts() (handled, twice uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.calls {
		handled++
		if n > 1 {
			twice++
		}
	}
	return handled, twice
}

func (s *scene) startWriter(e ending) {
	opts := []udsipc.WriterOption{udsipc.WithMaxBackoff(5 * time.Millisecond), udsipc.WithUndelivered(func([]byte) {})}
	switch {
	case e.writer == nil:
		s.writer = s.on.NewWriter(s, opts...)
	default: // They say all that there is to say of the transport.
		if s.on.Acknowledged {
			opts = append(opts, udsipc.WithAcknowledgements())
		}
		s.writer = ipctest.NewWriter(s, s.on.Address, append(opts, e.writer(s)...)...)
	}
	if e.first != "" {
		ipctest.MustWriteMessage(s, s.writer, e.first)
	}
	ipctest.MustStart(s, s.writer)
	if !e.silent {
		s.write(0, sceneMessages)
	}
}

// write writes so many messages, numbered from first on.
func (s *scene) write(first, n uint64) {
	s.Helper()
	for i := range n {
		if err := s.writer.WriteMessage(ipctest.Number(first+i, sceneSize)); err != nil {
			s.Fatal(err)
		}
	}
}

// stopReader ends the Reader, and with it the connection.
func (s *scene) stopReader(died bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.reader.Stop(ctx); err != nil && !died {
		s.Errorf("Stop: %v", err)
	}
	ipctest.Until(s, "the Writer has lost its connection", func() bool { return !s.writer.Metrics().Connected })
}

// TestStop_BothEnds_LosesNothing: the Writer stops first, and closes with bytes under way; then the
// Reader does, and says goodbye. The kernel of a TCP socket that was closed drops what it has to
// send when it gets a word.
func TestStop_BothEnds_LosesNothing(t *testing.T) {
	t.Parallel()
	const n, size = 100, 10_000
	ipctest.OverModes(t, func(t *testing.T, on *ipctest.Route) {
		var handled atomic.Uint64
		entered, gate := make(chan struct{}), make(chan struct{})
		open := sync.OnceFunc(func() { close(gate) })
		defer open()
		handler := func([]byte) error {
			if handled.Add(1) == 1 {
				close(entered)
			}
			<-gate
			return nil
		}
		r := on.StartReader(t, handler)
		w := on.StartWriter(t)
		for i := range uint64(n) {
			if err := w.WriteMessage(ipctest.Number(i, size)); err != nil {
				t.Fatal(err)
			}
		}
		ipctest.Await(t, "the first message", entered)
		stopped := make(chan error, 1)
		go func() { stopped <- w.Stop(t.Context()) }()
		ipctest.Until(t, "Stop has begun", func() bool { return errors.Is(w.WriteMessage(nil), udsipc.ErrStopped) })
		readerStopped := make(chan error, 1)
		go func() { readerStopped <- r.Stop(t.Context()) }()
		ipctest.Until(t, "Stop has begun", func() bool { return errors.Is(r.Start(), udsipc.ErrStopped) })
		open()
		if err := ipctest.Await(t, "Stop", readerStopped); err != nil {
			t.Error(err)
		}
		next := on.StartReader(t, handler)
		if err := ipctest.Await(t, "Stop", stopped); err != nil {
			t.Error(err)
		}
		ipctest.Stop(t, next)
		ipctest.CheckGracefulStop(t, w, handled.Load())
	})
}

// TestWriter_StopDuringTLSHandshake_LosesNothing: a client of TLS 1.3 is done before its server,
// which sends it something more. The Writer may not have closed by then with bytes under way.
func TestWriter_StopDuringTLSHandshake_LosesNothing(t *testing.T) {
	t.Parallel()
	const n, size = 20, 50_000
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		t.Parallel()
		gate := make(chan struct{})
		open := sync.OnceFunc(func() { close(gate) })
		defer open()
		if on.Secure {
			config, _ := on.Configs(t)
			config.VerifyConnection = func(tls.ConnectionState) error { <-gate; return nil }
		}
		var handled atomic.Uint64
		r := on.StartReader(t, func([]byte) error { <-gate; handled.Add(1); return nil })
		w := on.NewWriter(t)
		for i := range uint64(n) {
			if err := w.WriteMessage(ipctest.Number(i, size)); err != nil {
				t.Fatal(err)
			}
		}
		ipctest.MustStart(t, w)
		stopped := make(chan error, 1)
		go func() { stopped <- w.Stop(t.Context()) }()
		ipctest.Until(t, "all is written that can be",
			func() bool { m := w.Metrics(); return m.Sent == n || m.Connected && !on.Tcp() })
		ipctest.Until(t, "the Reader has the connection", func() bool { return r.Metrics().Connections == 1 })
		select {
		case err := <-stopped: // It may think so.
			stopped <- err
		case <-time.After(20 * time.Millisecond): // Long enough for one that does not wait.
		}
		readerStopped := make(chan error, 1)
		go func() { readerStopped <- r.Stop(t.Context()) }()
		ipctest.Until(t, "the Reader has ended its connections", func() bool {
			conn, err := on.Connect(t.Context())
			if err == nil {
				conn.Close()
			}
			return err != nil
		})
		r.Metrics() // Takes the lock under which it does.
		open()
		if err := ipctest.Await(t, "the Reader's Stop", readerStopped); err != nil {
			t.Error(err)
		}
		next := on.StartReader(t, func([]byte) error { handled.Add(1); return nil })
		if err := ipctest.Await(t, "Stop", stopped); err != nil {
			t.Error(err)
		}
		ipctest.Stop(t, next)
		ipctest.CheckGracefulStop(t, w, handled.Load())
	})
}
