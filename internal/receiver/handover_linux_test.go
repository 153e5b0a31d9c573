// SPDX-License-Identifier: Apache-2.0

package receiver

// A hand-over from one server to the next, over real sockets and a descriptor store that the test plays.

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/systemd"
	"github.com/udsipc/udsipc/internal/wire"
)

// failedAsStop is how the failure of a hand-over that has begun is reported.
const failedAsStop = "hand over x: ending as Stop does: "

// TestHandOver_Connections_ContinueInNextServer: a plain one, one of which nothing was read, a session, and the
// state of
// a writer that is not connected.
func TestHandOver_Connections_ContinueInNextServer(t *testing.T) {
	m := newManager(t)
	path := filepath.Join(shortDir(t), "s")
	s := socketServer(t, path, Config{MaxRedeliveries: 3}, accepts)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	idle, plain, unread, session := dialAt(t, path), dialAt(t, path), dialAt(t, path), dialAt(t, path)
	idleHello := wire.Hello{Writer: wire.WriterID{2}, Epoch: 7, FirstSeq: 11, LastSentSeq: 10}
	s.opens(idle, idleHello, wire.Welcome{Handled: 10, Limit: 100})
	idle.Close()
	s.sends(plain, "a")
	s.opens(session, wire.Hello{Writer: wire.WriterID{1}, Epoch: 3, FirstSeq: 1, HeartbeatTimeout: time.Hour},
		wire.Welcome{Limit: 100})
	s.sends(session, "b")
	s.hears(session, "\x01")
	await(t, "three are left", func() bool { n := s.Snapshot(); return n.Open == 3 && n.Received == 2 })
	s.notedSoon("1 a false", "1 b false")
	if err := s.HandOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := m.kinds(), []string{"fresh", "listener", "memory", "plain", "session"}; !slices.Equal(got, want) {
		t.Fatalf("stored are %q, want %q", got, want)
	}
	if got := s.Snapshot(); got.HandedOver != 3 || got.Open != 0 {
		t.Errorf("%+v", got)
	}
	s.notedSoon()

	waiting := dialAt(t, path) // In the backlog of the listener.
	s.sends(waiting, "c")
	next := socketServer(t, path, Config{MaxRedeliveries: 3}, accepts)
	next.acceptor.inherited = newInheritedState(m.left(), nil)
	if err := next.Start(); err != nil {
		t.Fatal(err)
	}
	next.sends(plain, "d")
	next.sends(unread, "e")
	next.sends(session, "f")
	next.hears(session, "\x02")
	next.notedSoon("1 c false", "1 d false", "1 e false", "2 f false")
	idle = dialAt(t, path)
	idleHello.Epoch++
	next.opens(idle, idleHello, wire.Welcome{Handled: 10, Limit: 100})
	if got := next.Snapshot(); got.Inherited != 3 || got.Accepted != 5 || got.WriterStates != 2 {
		t.Errorf("%+v", got)
	}
	for conn, report := range map[net.Conn]wire.CloseReport{plain: {Limit: 100}, unread: {FirstUnread: 2, Limit: 100}} {
		_ = conn.(*net.UnixConn).CloseWrite()
		next.hearsReport(conn, report)
		readsEnd(t, conn)
	}
	await(t, "the store is empty", func() bool { return len(m.kinds()) == 0 })
	if err := next.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket file: %v", err)
	}
}

// TestHandOver_NotPossible_ActsLikeStop and says why; nothing is left in the store.
func TestHandOver_NotPossible_ActsLikeStop(t *testing.T) {
	full := "the descriptor store is full, or there is none; raise FileDescriptorStoreMax="
	for name, test := range map[string]struct {
		set   func(*testing.T, *manager, *testServer)
		event string
	}{
		"no manager": {func(t *testing.T, _ *manager, _ *testServer) { t.Setenv("NOTIFY_SOCKET", "") },
			"hand over x: systemd does not listen to this process"},
		"without systemd": {func(_ *testing.T, _ *manager, s *testServer) { s.cfg.WithoutSystemd = true },
			"hand over x: not possible with WithoutSystemd or WithListener"},
		"no room": {func(t *testing.T, _ *manager, _ *testServer) { t.Setenv("FDSTORE", "0") },
			"hand over x: " + full},
		"nothing is kept":  {func(_ *testing.T, m *manager, _ *testServer) { m.keepsAtMost(0) }, failedAsStop + full},
		"the probe is not": {func(_ *testing.T, m *manager, _ *testServer) { m.keepsAtMost(3) }, failedAsStop + full},
		"too long a name": {func(_ *testing.T, _ *manager,
			s *testServer) {
			s.store = newHandOverStore(string(make([]byte, 300)))
		}, "hand over x: the name"},
		"not even a message": {func(_ *testing.T, m *manager, _ *testServer) { m.conn.Close() }, "hand over x: "},
	} {
		t.Run(name, func(t *testing.T) {
			m := newManager(t)
			path := filepath.Join(shortDir(t), "s")
			s := socketServer(t, path, Config{}, accepts)
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
			conn := dialAt(t, path)
			s.sends(conn, "a")
			await(t, "it is handled", func() bool { return s.Snapshot().Received == 1 })
			test.set(t, m, s)
			stopped := make(chan error, 1)
			go func() { stopped <- s.HandOver(context.Background()) }() // Ends with the connection.
			s.hearsReport(conn, wire.CloseReport{FirstUnread: 2, Limit: 100})
			readsEnd(t, conn)
			if err := <-stopped; err != nil {
				t.Error(err)
			}
			s.mu.Lock()
			events := s.events
			s.mu.Unlock()
			reported := func(event string) bool { return strings.HasPrefix(event, test.event) }
			if len(events) < 2 || !reported(events[1]) {
				t.Errorf("noted are %q, want %q", events, test.event)
			}
			if got := s.Snapshot(); got.HandedOver != 0 || got.Open != 0 {
				t.Errorf("%+v", got)
			}
			await(t, "the store is empty", func() bool { return len(m.kinds()) == 0 })
			if _, err := os.Stat(path); !os.IsNotExist(err) {
				t.Errorf("the socket file: %v", err)
			}
			if _, err := net.Dial("unix", path); err == nil {
				t.Error("it listens")
			}
		})
	}
}

// storedSlots returns how many descriptors this process counts as stored.
func storedSlots(t *testing.T) int {
	t.Helper()
	share := systemd.NewStoreShare("")
	for limit := 0; ; limit++ {
		t.Setenv("FDSTORE", strconv.Itoa(limit))
		if share.Begin() == nil {
			share.RemoveAll()
			t.Setenv("FDSTORE", "")
			return limit - 2
		}
	}
}

// TestHandOver_NoRoomForConnection_ClosesIt gracefully; the others are handed over.
func TestHandOver_NoRoomForConnection_ClosesIt(t *testing.T) {
	m := newManager(t)
	path := filepath.Join(shortDir(t), "s")
	s := socketServer(t, path, Config{}, accepts)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	conns := []net.Conn{dialAt(t, path), dialAt(t, path)}
	for _, conn := range conns {
		s.sends(conn, "a")
	}
	await(t, "they are handled", func() bool { return s.Snapshot().Received == 2 })
	t.Setenv("FDSTORE", strconv.Itoa(storedSlots(t)+4)) // The state, the probe, the listener, and one connection.
	if err := s.HandOver(t.Context()); err != nil {
		t.Error(err)
	}
	if got, want := m.kinds(), []string{"listener", "memory", "plain"}; !slices.Equal(got, want) {
		t.Errorf("stored are %q, want %q", got, want)
	}
	if got := s.Snapshot(); got.HandedOver != 1 || got.Open != 0 {
		t.Errorf("%+v", got)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.events) != 3 {
		t.Errorf("noted are %q", s.events)
	}
}

// TestHandOver_ContextEndsFirst_ForcesStop: a handler that hangs is not waited for, and nothing stays in the store.
func TestHandOver_ContextEndsFirst_ForcesStop(t *testing.T) {
	m := newManager(t)
	path := filepath.Join(shortDir(t), "s")
	release, entered := make(chan struct{}), make(chan struct{})
	s := socketServer(t, path, Config{}, func(string, bool) error { close(entered); <-release; return nil })
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	defer close(release)
	conn := dialAt(t, path)
	s.sends(conn, "a")
	<-entered
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errAccept)
	if err := s.HandOver(ctx); !errors.Is(err, errAccept) {
		t.Error(err)
	}
	s.notedSoon("1 a false", failedAsStop+"context canceled")
	await(t, "the store is empty", func() bool { return len(m.kinds()) == 0 })
}

// TestHandOver_Twice_StoresOnce: a second call waits for the first one, and undoes nothing.
func TestHandOver_Twice_StoresOnce(t *testing.T) {
	m := newManager(t)
	path := filepath.Join(shortDir(t), "s")
	s := socketServer(t, path, Config{}, accepts)
	for range 2 { // Before it is started, nothing is.
		if err := s.prepareHandOver(); err != nil || s.handingOver || len(m.kinds()) != 0 {
			t.Errorf("%v, %v", err, m.kinds())
		}
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.prepareHandOver(); err != nil || !s.handingOver {
			t.Error(err)
		}
	}
	results := make(chan error, 2)
	for range 2 {
		go func() { results <- s.HandOver(context.Background()) }() // Ends with the server.
	}
	if err := errors.Join(<-results, <-results); err != nil {
		t.Error(err)
	}
	if got, want := m.kinds(), []string{"listener", "memory"}; !slices.Equal(got, want) {
		t.Errorf("stored are %q, want %q", got, want)
	}
	if err := s.prepareHandOver(); err != nil {
		t.Error(err)
	}
	s.notedSoon()
}

// TestHandOver_ConnectionsPauseLate_AreWaitedFor: one whose handler is busy is stored when that has returned.
func TestHandOver_ConnectionsPauseLate_AreWaitedFor(t *testing.T) {
	m := newManager(t)
	path := filepath.Join(shortDir(t), "s")
	release, entered := make(chan struct{}), make(chan struct{}, 2)
	s := socketServer(t, path, Config{}, func(string, bool) error { entered <- struct{}{}; <-release; return nil })
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s.sends(dialAt(t, path), "a")
		<-entered
	}
	dialAt(t, path) // This one pauses at once.
	await(t, "all are there", func() bool { return s.Snapshot().Open == 3 })
	stopped := make(chan error, 1)
	go func() { stopped <- s.HandOver(context.Background()) }() // Ends with the server.
	await(t, "one is stored", func() bool { return slices.Contains(m.kinds(), "fresh") })
	for range 2 {
		release <- struct{}{}
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if got, want := m.kinds(), []string{"fresh", "listener", "memory", "plain", "plain"}; !slices.Equal(got, want) {
		t.Errorf("stored are %q, want %q", got, want)
	}
	if _, err := s.acceptor.listener.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("this process keeps the listener: %v", err)
	}
}
