// SPDX-License-Identifier: Apache-2.0

package receiver

// This file plays the systemd of a test, and has servers on real sockets.

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/socket"
	"github.com/udsipc/udsipc/internal/systemd"
)

// A manager keeps the descriptors that the servers of a test store.
type manager struct {
	testing.TB
	conn *net.UnixConn

	mu     sync.Mutex // Guards what follows.
	stored []systemd.Stored
	most   int      // How many it keeps.
	states []string // The first lines of all other messages.
}

// newManager has the process send its notifications to a manager.
func newManager(t *testing.T) *manager {
	t.Helper()
	name := filepath.Join(shortDir(t), "n")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", name)
	t.Setenv("FDSTORE", "")
	m := &manager{TB: t, conn: conn, most: 1000}
	ended := make(chan struct{})
	go func() { // Ends with conn.
		defer close(ended)
		for m.receive() == nil {
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-ended
		for _, s := range m.stored {
			s.File.Close()
		}
	})
	return m
}

// shortDir returns a directory for sockets, whose paths are bounded.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "r")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// receive does what a message asks for.
func (m *manager) receive() error {
	b, rights := make([]byte, 4096), make([]byte, 256)
	n, size, _, _, err := m.conn.ReadMsgUnix(b, rights)
	if err != nil {
		return err
	}
	var files []*os.File
	messages, _ := syscall.ParseSocketControlMessage(rights[:size])
	for i := range messages {
		fds, _ := syscall.ParseUnixRights(&messages[i])
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "stored"))
		}
	}
	order, rest, _ := strings.Cut(string(b[:n]), "\n")
	name, _, _ := strings.Cut(strings.TrimPrefix(rest, "FDNAME="), "\n")
	m.mu.Lock()
	switch {
	case order == "FDSTORE=1" && len(m.stored) < m.most:
		m.stored = append(m.stored, storedOf(name, files[0]))
		files = nil
	case order == "READY=1", order == "STOPPING=1", strings.HasPrefix(order, "STATUS="):
		m.states = append(m.states, order)
	case order == "FDSTOREREMOVE=1":
		m.stored = slices.DeleteFunc(m.stored, func(s systemd.Stored) bool {
			if s.Name == name {
				s.File.Close()
			}
			return s.Name == name
		})
	}
	m.mu.Unlock()
	for _, file := range files {
		file.Close()
	}
	return nil
}

// storedOf is what the next process makes of a name and a descriptor.
func storedOf(name string, file *os.File) systemd.Stored {
	s := systemd.Stored{Name: name, File: file}
	s.Kind, _, _ = strings.Cut(strings.TrimPrefix(name, "udsipc-"), "-")
	if n, _ := fmt.Sscanf(s.Kind, "listener.%x.%x.%x", &s.Identity.Device, &s.Identity.Inode,
		&s.Identity.Address); n == 3 {
		s.Kind = systemd.StoreListener
	}
	if info, err := file.Stat(); err == nil {
		s.Inode = info.Sys().(*syscall.Stat_t).Ino
	}
	return s
}

// put stores something.
func (m *manager) put(s systemd.Stored) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stored = append(m.stored, s)
}

// keepsAtMost limits what is stored.
func (m *manager) keepsAtMost(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.most = n
}

// hears waits until the servers have sent these states, and no other.
func (m *manager) hears(want ...string) {
	m.Helper()
	var got []string
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(200 * time.Microsecond) {
		m.mu.Lock()
		got = slices.Clone(m.states)
		m.mu.Unlock()
		if slices.Equal(got, want) || len(got) > len(want) || time.Now().After(end) {
			break
		}
	}
	if !slices.Equal(got, want) {
		m.Errorf("the states are %q, want %q", got, want)
	}
}

// kinds returns the kinds of what is stored, in order.
func (m *manager) kinds() (kinds []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.stored {
		kinds = append(kinds, s.Kind)
	}
	slices.Sort(kinds)
	return kinds
}

// left returns duplicates of what is stored, as the next process gets them.
func (m *manager) left() (list []systemd.Stored) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.stored {
		fd, err := syscall.Dup(int(s.File.Fd()))
		if err != nil {
			m.Fatal(err)
		}
		list = append(list, storedOf(s.Name, os.NewFile(uintptr(fd), s.Name)))
	}
	return list
}

// specOf is the address of a socket.
func specOf(t *testing.T, address string) socket.Spec {
	t.Helper()
	parsed, err := socket.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return socket.Spec{Address: parsed, Mode: 0o600, Uid: -1, Gid: -1}
}

// socketServer returns a server on a Unix socket of its own, or on that of another one.
func socketServer(t *testing.T, path string, cfg Config, handle func(string, bool) error) *testServer {
	t.Helper()
	s := newServerOf(t, cfg, handle)
	s.cfg.Listener, s.cfg.Socket, s.cfg.StoreKey = nil, specOf(t, path), "key"
	s.store = newHandOverStore("key")
	return s
}

// dialAt connects to a Unix socket.
func dialAt(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// await waits for a fact that has no event.
func await(t *testing.T, what string, fact func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !fact(); time.Sleep(200 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 10 s until %s", what)
		}
	}
}

// notedSoon wants these events, in any order.
func (s *testServer) notedSoon(want ...string) {
	s.Helper()
	slices.Sort(want)
	var got []string
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(200 * time.Microsecond) {
		s.mu.Lock()
		got = slices.Sorted(slices.Values(s.events))
		s.mu.Unlock()
		if slices.Equal(got, want) || time.Now().After(end) {
			break
		}
	}
	if !slices.Equal(got, want) {
		s.Errorf("noted are\n%q, want\n%q", got, want)
	}
	s.mu.Lock()
	s.events = nil
	s.mu.Unlock()
}

// readsEnd wants the server to close without another word.
func readsEnd(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
		t.Errorf("it says % x, %v, want the end", rest, err)
	}
}
