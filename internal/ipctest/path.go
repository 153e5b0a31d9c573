// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

// SocketPath returns a path for a socket that is short enough on every system.
func SocketPath(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(tb.TempDir(), "s")
}

// whileInUse calls listen until the address is free. A listener that was closed lives on for a moment in a process that
// another test is about to start: from fork to exec it has all descriptors.
func whileInUse(tb testing.TB, listen func() error) {
	tb.Helper()
	deadline := time.Now().Add(10 * time.Second)
	err := listen()
	for errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
		err = listen()
	}
	if err != nil {
		tb.Fatal(err)
	}
}

func AbstractName(tb testing.TB) string {
	tb.Helper()
	if runtime.GOOS != "linux" {
		tb.Skip("abstract names exist on Linux alone")
	}
	return "@udsipc-test-" + rand.Text()
}

// SocketPair returns both ends of a connection over a socket file.
func SocketPair(tb testing.TB) (client, server *net.UnixConn) {
	tb.Helper()
	l, err := net.Listen("unix", SocketPath(tb))
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	dialed, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		dialed.Close()
		accepted.Close()
	})
	return dialed.(*net.UnixConn), accepted.(*net.UnixConn)
}

// MustListenAt starts a Reader.
func MustListenAt(tb testing.TB, r *udsipc.Reader) {
	tb.Helper()
	whileInUse(tb, r.Start)
}

// MustListen listens until the end of the test, or until Close.
func MustListen(tb testing.TB, address string) net.Listener {
	tb.Helper()
	network, name := NetworkOf(address)
	var l net.Listener
	whileInUse(tb, func() (err error) { l, err = net.Listen(network, name); return err })
	tb.Cleanup(func() { l.Close() })
	return l
}

// OpenDir returns a directory that every user may enter.
func OpenDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "udsipc")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	return dir
}

func CheckEmpty(tb testing.TB, dir string) {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		tb.Errorf("the directory has %v, %v, want nothing", entries, err)
	}
}

// Lstat returns what lies at path; nil for nothing.
func Lstat(tb testing.TB, path string) fs.FileInfo {
	tb.Helper()
	info, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		tb.Fatal(err)
	}
	return info
}

func CheckMode(tb testing.TB, path string, want fs.FileMode) {
	tb.Helper()
	if info := Lstat(tb, path); info == nil || info.Mode() != want {
		tb.Errorf("%s is %v, want %v", path, info, want)
	}
}

// LeaveStale makes a socket file on which nobody listens.
func LeaveStale(tb testing.TB, path string) {
	tb.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		tb.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		tb.Fatal(err)
	}
}

// LockFile is where Readers lock each other out while they make the socket at path.
func LockFile(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".lock")
}

const Nobody = 65534

func AsRoot(tb testing.TB) {
	tb.Helper()
	if os.Getuid() != 0 {
		tb.Skip("takes root")
	}
}
