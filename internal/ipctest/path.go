// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

// SocketPath returns a socket path that is short enough on every system.
func SocketPath(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(tb.TempDir(), "s")
}

// whileInUse calls listen until the address is free. A closed listener stays open for a moment in a
// process that another test is starting: from fork to exec, that process has all descriptors.
func whileInUse(tb testing.TB, listen func() error) {
	tb.Helper()
	deadline := time.Now().Add(patience)
	err := listen()
	for errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
		err = listen()
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// AbstractName returns an unused abstract address. It skips the test if the system has none.
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

// CopyBinary returns a path of this binary in a directory that the other user may enter. Another process writes the
// copy: one that this process has open for writing is busy as long as a child of another test has the descriptor, which
// is from its fork to its exec.
func CopyBinary(tb testing.TB, dir, self string) string {
	tb.Helper()
	path := filepath.Join(dir, "binary")
	if Lstat(tb, path) != nil {
		return path
	}
	if os.Link(self, path) == nil {
		return path
	}
	if output, err := exec.Command("cp", "--", self, path).CombinedOutput(); err != nil {
		tb.Fatalf("cp: %v, %s", err, output)
	}
	return path
}

// MustListenAt starts a Reader, and fails the test on an error.
func MustListenAt(tb testing.TB, r *udsipc.Reader) {
	tb.Helper()
	whileInUse(tb, r.Start)
}

// MustListen listens at address until the end of the test.
func MustListen(tb testing.TB, address string) net.Listener {
	tb.Helper()
	network, name := NetworkOf(address)
	var l net.Listener
	whileInUse(tb, func() (err error) { l, err = net.Listen(network, name); return err })
	tb.Cleanup(func() { l.Close() })
	return l
}

// OpenDir returns a temporary directory that every user may enter.
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

// CheckEmpty fails the test if dir has files.
func CheckEmpty(tb testing.TB, dir string) {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		tb.Errorf("the directory has %v, %v, want nothing", entries, err)
	}
}

// Lstat returns the file at path, or nil if there is none.
func Lstat(tb testing.TB, path string) fs.FileInfo {
	tb.Helper()
	info, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		tb.Fatal(err)
	}
	return info
}

// CheckMode fails the test if the file at path has another mode.
func CheckMode(tb testing.TB, path string, want fs.FileMode) {
	tb.Helper()
	if info := Lstat(tb, path); info == nil || info.Mode() != want {
		tb.Errorf("%s is %v, want %v", path, info, want)
	}
}

// LeaveStale creates a socket file on which no process listens.
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

// LockFile returns the path of the file that Readers lock while they create the socket at path.
func LockFile(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".lock")
}

// Nobody is the ID of a user and a group without privileges.
const Nobody = 65534

// AsRoot skips the test unless the process runs as root.
func AsRoot(tb testing.TB) {
	tb.Helper()
	if os.Getuid() != 0 {
		tb.Skip("takes root")
	}
}
