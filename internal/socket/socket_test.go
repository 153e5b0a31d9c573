// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package socket_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

func TestSocket_Start_CreatesDirectoryAndMode(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	path := filepath.Join(dir, "s")
	r := ipctest.StartReader(t, ipctest.Ignore, path)
	ipctest.CheckMode(t, filepath.Dir(dir), fs.ModeDir|0o750)
	ipctest.CheckMode(t, dir, fs.ModeDir|0o750)
	ipctest.CheckMode(t, path, fs.ModeSocket|0o600)
	ipctest.Stop(t, r)
	ipctest.CheckEmpty(t, dir)
}

func TestSocket_DirectoryFails_IsError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := ipctest.NewReader(t, filepath.Join(file, "s"))
	if err := r.Start(); !errors.Is(err, syscall.ENOTDIR) || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v, want %v of %s", err, syscall.ENOTDIR, file)
	}
}

func TestSocket_Stale_IsReplaced(t *testing.T) {
	path := ipctest.SocketPath(t)
	ipctest.LeaveStale(t, path)
	r := ipctest.StartReader(t, ipctest.Ignore, path)
	ipctest.MustDial(t, path)
	ipctest.Stop(t, r)
	ipctest.CheckEmpty(t, filepath.Dir(path))
}

func TestSocket_InUse_IsError(t *testing.T) {
	t.Parallel()
	for _, transport := range ipctest.Transports {
		address := transport.Address(t)
		t.Run(transport.Name+" of a Reader", func(t *testing.T) {
			t.Parallel()
			first := ipctest.StartReader(t, ipctest.Ignore, address)
			second := ipctest.NewReader(t, address)
			if err := second.Start(); !errors.Is(err, udsipc.ErrSocketInUse) {
				t.Fatalf("got %v, want %v", err, udsipc.ErrSocketInUse)
			}
			ipctest.MustDial(t, address)
			ipctest.Stop(t, first)
			ipctest.MustListenAt(t, second)
		})
	}
	for _, transport := range ipctest.Transports {
		t.Run(transport.Name+" of a stranger", func(t *testing.T) {
			address := transport.Address(t)
			network, name := "unix", strings.TrimPrefix(address, "unix:")
			if rest, ok := strings.CutPrefix(address, "tcp://"); ok {
				network, name = "tcp", rest
			}
			l, err := net.Listen(network, name)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if err := ipctest.NewReader(t, address).Start(); !errors.Is(err, udsipc.ErrSocketInUse) {
				t.Errorf("got %v, want %v", err, udsipc.ErrSocketInUse)
			}
			ipctest.MustDial(t, address)
		})
	}
}

// TestSocket_KilledReader_IsReplaced by the next one, whatever it was doing.
func TestSocket_KilledReader_IsReplaced(t *testing.T) {
	path := ipctest.SocketPath(t)
	for range 3 {
		c := startContender(t)
		c.tell(t, path)
		if got := c.says(t); got != "won" {
			t.Fatal(got)
		}
		if err := c.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = c.cmd.Wait()
	}
	if err := os.WriteFile(ipctest.LockFile(path), nil, 0o600); err != nil { // Of one that was killed in its Start.
		t.Fatal(err)
	}
	r := ipctest.StartReader(t, ipctest.Ignore, path)
	ipctest.MustDial(t, path)
	ipctest.Stop(t, r)
	ipctest.CheckEmpty(t, filepath.Dir(path))
}

// TestSocket_DatagramSocket_IsNotReplaced: it has an owner, though nobody can connect to it.
func TestSocket_DatagramSocket_IsNotReplaced(t *testing.T) {
	path := ipctest.SocketPath(t)
	conn, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	before := ipctest.Lstat(t, path)
	r := ipctest.NewReader(t, path)
	if err := r.Start(); !errors.Is(err, udsipc.ErrSocketInUse) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want %v at %s", err, udsipc.ErrSocketInUse, path)
	}
	ipctest.Stop(t, r)
	if after := ipctest.Lstat(t, path); after == nil || !os.SameFile(before, after) {
		t.Fatalf("there was %v, now %v", before, after)
	}
	sender, err := net.Dial("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	if _, err := sender.Write([]byte("x")); err != nil {
		t.Errorf("the socket is of no use any more: %v", err)
	}
}

func TestSocket_OtherFile_IsNotReplaced(t *testing.T) {
	for _, test := range []struct {
		says string
		make func(path string) error
	}{
		{"a regular file", func(path string) error { return os.WriteFile(path, []byte("precious"), 0o600) }},
		{"a directory", func(path string) error { return os.Mkdir(path, 0o700) }},
		{"a symbolic link", func(path string) error { return os.Symlink("nowhere", path) }},
		{"a symbolic link to a stale socket", func(path string) error {
			ipctest.LeaveStale(t, path+".stale")
			return os.Symlink(path+".stale", path)
		}},
		{"a named pipe", func(path string) error { return syscall.Mkfifo(path, 0o600) }},
	} {
		t.Run(test.says, func(t *testing.T) {
			path := ipctest.SocketPath(t)
			if err := test.make(path); err != nil {
				t.Fatal(err)
			}
			before := ipctest.Lstat(t, path)
			says, _, _ := strings.Cut(test.says, " to ")
			r := ipctest.NewReader(t, path)
			for range 2 {
				err := r.Start()
				if !errors.Is(err, udsipc.ErrInvalidSocketPath) || !strings.Contains(err.Error(), says) {
					t.Errorf("got %v, want %v and %q", err, udsipc.ErrInvalidSocketPath, says)
				}
			}
			ipctest.Stop(t, r)
			if after := ipctest.Lstat(t, path); after == nil || !os.SameFile(before, after) ||
				after.ModTime() != before.ModTime() {
				t.Errorf("there was %v, now %v", before, after)
			}
			if strings.Contains(test.says, "stale") && ipctest.Lstat(t, path+".stale") == nil {
				t.Error("the stale socket behind the link is gone")
			}
		})
	}
}

func TestSocket_Stop_RemovesOwnSocketOnly(t *testing.T) {
	for name, replace := range map[string]func(path string) error{
		"another's socket": func(path string) error { ipctest.LeaveStale(t, path); return nil },
		"regular file":     func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"nothing":          func(string) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			path := ipctest.SocketPath(t)
			r := ipctest.StartReader(t, ipctest.Ignore, path)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := replace(path); err != nil {
				t.Fatal(err)
			}
			before := ipctest.Lstat(t, path)
			ipctest.Stop(t, r)
			after := ipctest.Lstat(t, path)
			if (before == nil) != (after == nil) || before != nil && !os.SameFile(before, after) {
				t.Errorf("there was %v, now %v", before, after)
			}
		})
	}
	t.Run("directory gone", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "f")
		r := ipctest.StartReader(t, ipctest.Ignore, filepath.Join(dir, "s"))
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		ipctest.Stop(t, r)
	})
	t.Run("another Reader's", func(t *testing.T) {
		path := ipctest.SocketPath(t)
		first := ipctest.StartReader(t, ipctest.Ignore, path)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		second := ipctest.StartReader(t, ipctest.Ignore, path)
		ipctest.Stop(t, first)
		ipctest.MustDial(t, path)
		ipctest.Until(t, "the second has the connection", func() bool { return second.Metrics().Accepted == 1 })
	})
}
