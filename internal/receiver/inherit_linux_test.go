// SPDX-License-Identifier: Apache-2.0

package receiver

// What a server takes of the descriptors that an earlier process has left, over real sockets.

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/udsipc/udsipc/internal/socket"
	"github.com/udsipc/udsipc/internal/systemd"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// storedListener returns a listening socket as an earlier process has left it, and its socket file.
func storedListener(t *testing.T, path string) systemd.Stored {
	t.Helper()
	listener, file, err := socket.Listen(specOf(t, path))
	if err != nil {
		t.Fatal(err)
	}
	handle, err := listener.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	identity := identityOfListener(file.Identity(), specOf(t, path).Address)
	if unix, ok := listener.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false)
	}
	listener.Close()
	file.Close()
	return systemd.Stored{Name: "udsipc-listener", Kind: systemd.StoreListener, Identity: identity, File: handle}
}

func TestTakeListener_SameAddress_IsTaken(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	stored := storedListener(t, path)
	l := newInheritedState([]systemd.Stored{stored}, nil)
	if listener, file, err := l.takeListener(specOf(t, path), false); listener != nil || file != nil || err != nil ||
		l.unusedListener == nil {
		t.Errorf("one that is not needed: %v, %v, %v", listener, file, err)
	}
	listener, file, err := l.takeListener(specOf(t, path), true)
	if listener == nil || file == nil || err != nil || l.unusedListener != nil || len(l.errs) != 0 {
		t.Fatalf("%v, %v, %v, %+v", listener, file, err, l)
	}
	if again, _, err := l.takeListener(specOf(t, path), true); again != nil || err != nil {
		t.Errorf("it is taken twice: %v", err)
	}
	if identity := identityOfListener(file.Identity(), specOf(t, path).Address); identity != stored.Identity ||
		identity.Inode == 0 {
		t.Errorf("%+v, want %+v", identity, stored.Identity)
	}
	listener.Close()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("its file is removed without the checks of package socket: %v", err)
	}
	if err := file.Remove(); err != nil {
		t.Error(err)
	}
}

func TestTakeListener_OtherAddress_IsUnused(t *testing.T) {
	dir := shortDir(t)
	path, other := filepath.Join(dir, "s"), filepath.Join(dir, "t")
	for name, test := range map[string]struct {
		set  func()
		spec string
	}{
		"another path":  {func() {}, other},
		"file removed":  {func() { os.Remove(path) }, path},
		"file replaced": {func() { os.Remove(path); os.WriteFile(path, nil, 0o600) }, path},
	} {
		t.Run(name, func(t *testing.T) {
			os.Remove(path)
			l := newInheritedState([]systemd.Stored{storedListener(t, path)}, nil)
			test.set()
			listener, file, err := l.takeListener(specOf(t, test.spec), true)
			if listener != nil || file != nil || err != nil || l.unusedListener == nil {
				t.Errorf("%v, %v, %v, unused %v", listener, file, err, l.unusedListener)
			}
			l.unusedListener.Close()
		})
	}
}

// TestTakeListener_TCP_IsFoundByAddress as the system writes it, or as it was given.
func TestTakeListener_TCP_IsFoundByAddress(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	address := listener.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	for _, test := range []struct {
		given uint64 // The hash of the address as the earlier process had it.
		spec  string
		found bool
	}{
		{0, "tcp://" + address, true},
		{specOf(t, "tcp://localhost:"+port).Address.Hash(), "tcp://localhost:" + port, true},
		{0, "tcp://localhost:" + port, false},
		{0, "tcp://127.0.0.1:1", false},
	} {
		handle, err := listener.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		l := newInheritedState([]systemd.Stored{{Kind: systemd.StoreListener,
			Identity: systemd.ListenerIdentity{Address: test.given}, File: handle}}, nil)
		taken, file, err := l.takeListener(specOf(t, test.spec), true)
		if (taken != nil) != test.found || file != nil || err != nil {
			t.Errorf("%+v: %v, %v", test, taken, err)
		}
		if !test.found {
			taken = l.unusedListener
		}
		taken.Close()
	}
}

func TestTakeListener_NoListener_IsReported(t *testing.T) {
	reading, writing, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer writing.Close()
	l := newInheritedState([]systemd.Stored{{Name: "a", Kind: systemd.StoreListener, File: reading}}, nil)
	if listener, _, err := l.takeListener(specOf(t, "/s"), true); listener != nil || err != nil || len(l.errs) != 1 ||
		l.unusedListener != nil {
		t.Errorf("%v, %v, %+v", listener, err, l)
	}
}

// TestNewInheritedState_Descriptors_AreSorted: sessions find their entries, and what is not needed is closed.
func TestNewInheritedState_Descriptors_AreSorted(t *testing.T) {
	dir := shortDir(t)
	pair := func() *os.File {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		other := os.NewFile(uintptr(fds[1]), "peer")
		t.Cleanup(func() { other.Close() })
		return os.NewFile(uintptr(fds[0]), "connection")
	}
	state := wire.HandOverState{
		Writers:  []wire.WriterSnapshot{{Epoch: 9}},
		Sessions: []wire.SessionSnapshot{{Inode: 70, Limit: 7}, {Inode: 80, Limit: 8}},
	}
	name := filepath.Join(dir, "state")
	if err := os.WriteFile(name, state.Encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	memory, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = memory.Seek(3, 0) // Where an earlier process has read.
	probe, notSocket := pair(), memory
	notSocket, err = os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	first, second := storedListener(t, filepath.Join(dir, "a")), storedListener(t, filepath.Join(dir, "b"))
	l := newInheritedState([]systemd.Stored{
		{Name: "1", Kind: systemd.StoreSession, Inode: 80, File: pair()},
		{Name: "2", Kind: systemd.StorePlain, Inode: 90, File: pair()},
		{Name: "3", Kind: systemd.StoreHandOverState, File: memory},
		{Name: "4", Kind: systemd.StoreProbe, File: probe},
		first, second,
		{Name: "5", Kind: systemd.StorePlain, File: notSocket},
		{Name: "1", Kind: systemd.StoreUnread, Inode: 70, File: pair()},
	}, errAccept)
	for i := range l.conns {
		defer l.conns[i].conn.Close()
	}
	if len(l.conns) != 3 || l.conns[0].kind != systemd.StoreSession || l.conns[0].session == nil ||
		l.conns[0].session.Limit != 8 ||
		l.conns[1].kind != systemd.StorePlain || l.conns[1].session != nil || l.conns[2].session.Limit != 7 {
		t.Errorf("%+v", l.conns)
	}
	if len(l.errs) != 2 || l.errs[0] != errAccept || len(l.state.Writers) != 1 || l.listener.File != first.File {
		t.Errorf("%+v", l)
	}
	for what, file := range map[string]*os.File{"the state": memory, "the probe": probe,
		"the second listener": second.File} {
		if _, err := file.Stat(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s is open: %v", what, err)
		}
	}
	first.File.Close()
	names := []string{"1", "2", "3", "4", "5", "udsipc-listener"}
	for _, name := range names {
		if !l.names[name] {
			t.Errorf("%q is not to be removed from the store", name)
		}
	}
}

// TestNewInheritedState_DamagedState_IsReported: without it, sessions cannot go on.
func TestNewInheritedState_DamagedState_IsReported(t *testing.T) {
	name := filepath.Join(shortDir(t), "state")
	if err := os.WriteFile(name, []byte("\xff"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	closed, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	l := newInheritedState([]systemd.Stored{{Kind: systemd.StoreHandOverState, File: file},
		{Kind: systemd.StoreHandOverState, File: closed}}, nil)
	if len(l.errs) != 2 || !errors.Is(l.errs[0], wire.ErrHandOverState) || !errors.Is(l.errs[1], os.ErrClosed) {
		t.Errorf("%v", l.errs)
	}
}

// TestServeBacklog_Unix_ServesAndRefuses: the connections that wait are served, later ones are refused, and the
// file stays.
func TestServeBacklog_Unix_ServesAndRefuses(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := newServerOf(t, Config{}, accepts)
	for range 2 {
		s.sends(dialAt(t, path), "a")
	}
	refused := make(chan error, 1)
	s.cfg.Open = func(open func() Sink) func(*transport.Peer) Sink {
		return func(*transport.Peer) Sink {
			conn, err := net.Dial("unix", path)
			if err == nil {
				conn.Close()
			}
			select {
			case refused <- err:
			default:
			}
			return open()
		}
	}(func() Sink { return s.sinkOf(accepts)(nil) })
	s.serveBacklog(listener)
	s.notedSoon("1 a false", "1 a false")
	if err := <-refused; !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a later connection: %v", err)
	}
	if _, err := listener.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

// TestRemoveStored_Names_AreAllRemoved from the store, once the server listens.
func TestRemoveStored_Names_AreAllRemoved(t *testing.T) {
	m := newManager(t)
	for _, name := range []string{"udsipc-plain-a", "udsipc-plain-b", "udsipc-plain-b", "udsipc-plain-c"} {
		reading, writing, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		writing.Close()
		m.put(storedOf(name, reading))
	}
	l := &inheritedState{names: map[string]bool{"udsipc-plain-a": true, "udsipc-plain-b": true}}
	l.removeStored()
	await(t, "two names are removed", func() bool { return len(m.kinds()) == 1 })
	if !slices.Equal(m.kinds(), []string{"plain"}) || len(l.errs) != 0 {
		t.Errorf("%q, %v", m.kinds(), l.errs)
	}
	(*inheritedState)(nil).removeStored()
	t.Setenv("NOTIFY_SOCKET", "")
	if l.removeStored(); len(l.errs) != 2 {
		t.Errorf("%v", l.errs)
	}
}
