// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package socket_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

func init() {
	ipctest.Roles["umask"] = func() error {
		umask, err := strconv.ParseUint(os.Getenv("UMASK"), 8, 32)
		if err != nil {
			return err
		}
		mode, err := strconv.ParseUint(os.Getenv("MODE"), 8, 32)
		if err != nil {
			return err
		}
		syscall.Umask(int(umask))
		path := os.Getenv("SOCKET")
		r, err := udsipc.NewReader(ipctest.Ignore, path, udsipc.WithSocketMode(fs.FileMode(mode)))
		if err != nil {
			return err
		}
		if err := r.Start(); err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		if want := fs.ModeSocket | fs.FileMode(mode); info.Mode() != want {
			return fmt.Errorf("the socket has mode %v, want %v", info.Mode(), want)
		}
		return r.Stop(context.Background())
	}
}

// TestSocket_Mode_IgnoresUmask uses processes, because the umask belongs to one.
func TestSocket_Mode_IgnoresUmask(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"666", "660", "600", "200", "777"} {
		for _, umask := range []string{"000", "022", "077", "777"} {
			t.Run(mode+" under "+umask, func(t *testing.T) {
				cmd := ipctest.Process(t, "umask", "SOCKET="+ipctest.SocketPath(t), "MODE="+mode, "UMASK="+umask)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
			})
		}
	}
}

// TestSocket_ModeWithoutFile_IsError: a mode or an owner that would protect nothing is refused.
func TestSocket_ModeWithoutFile_IsError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	places := map[string][]udsipc.ReaderOption{
		"tcp://127.0.0.1:0": nil, "/run/app.sock": {udsipc.WithListener(l)},
	}
	if runtime.GOOS == "linux" {
		places["@udsipc-test"] = nil
	}
	for address, opts := range places {
		for option, set := range map[string]udsipc.ReaderOption{
			"WithSocketMode(0600)":     udsipc.WithSocketMode(0o600),
			"WithSocketOwner(0, -1)":   udsipc.WithSocketOwner(0, -1),
			"WithSocketOwner(-1, 100)": udsipc.WithSocketOwner(-1, 100),
		} {
			_, err := udsipc.NewReader(ipctest.Ignore, address, append(opts, set)...)
			name, _, _ := strings.Cut(option, "(")
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s with %s: %v", address, option, err)
			}
		}
		if _, err := udsipc.NewReader(ipctest.Ignore, address, opts...); err != nil {
			t.Errorf("%s with neither: %v", address, err)
		}
	}
}

func TestSocket_Owner_IsSet(t *testing.T) {
	ipctest.AsRoot(t)
	for _, test := range []struct{ uid, gid, wantUID, wantGID int }{
		{ipctest.Nobody, ipctest.Nobody, ipctest.Nobody, ipctest.Nobody},
		{ipctest.Nobody, -1, ipctest.Nobody, os.Getgid()},
		{-1, ipctest.Nobody, os.Getuid(), ipctest.Nobody},
	} {
		path := ipctest.SocketPath(t)
		r := ipctest.StartReader(t, ipctest.Ignore, path,
			udsipc.WithSocketOwner(test.uid, test.gid), udsipc.WithSocketMode(0o660))
		ipctest.CheckMode(t, path, fs.ModeSocket|0o660)
		stat := ipctest.Lstat(t, path).Sys().(*syscall.Stat_t)
		if int(stat.Uid) != test.wantUID || int(stat.Gid) != test.wantGID {
			t.Errorf("owner %d:%d, want %d:%d", stat.Uid, stat.Gid, test.wantUID, test.wantGID)
		}
		ipctest.Stop(t, r)
	}
}

func TestSocket_OwnerNotPermitted_IsError(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may")
	}
	path := ipctest.SocketPath(t)
	err := ipctest.NewReader(t, path, udsipc.WithSocketOwner(0, -1)).Start()
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "WithSocketOwner") {
		t.Errorf("got %v", err)
	}
	ipctest.CheckEmpty(t, filepath.Dir(path))
}

func init() {
	ipctest.Roles["intruder"] = func() error {
		path := os.Getenv("SOCKET")
		fmt.Println("ready")
		var refused, absent int
		latest := time.Now().Add(time.Minute)
		for {
			conn, err := net.Dial("unix", path)
			switch {
			case err == nil:
				conn.Close()
				return errors.New("connected")
			case errors.Is(err, syscall.EACCES):
				refused++
			case errors.Is(err, syscall.ENOENT):
				absent++
			case errors.Is(err, syscall.ECONNREFUSED):
				return fmt.Errorf("may connect, but nobody listens: %w", err)
			}
			if _, err := os.Lstat(path + ".end"); err == nil && refused > 0 { // The socket stays until this process ends.
				return nil
			}
			if time.Now().After(latest) {
				return fmt.Errorf("%d attempts found no socket, %d were refused", absent, refused)
			}
		}
	}
}

// startIntruder starts a process of another user that tries to connect until path.end exists.
func startIntruder(tb testing.TB, path string) (cmd *exec.Cmd, complaint *strings.Builder) {
	tb.Helper()
	cmd = ipctest.Process(tb, "intruder", "SOCKET="+path)
	cmd.Path = ipctest.CopyBinary(tb, filepath.Dir(path), cmd.Path) // It lies where the other user may not go.
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ipctest.Nobody, Gid: ipctest.Nobody}}
	complaint = &strings.Builder{}
	cmd.Stderr = complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		tb.Fatalf("intruder: %q, %v, %v: %s", line, err, cmd.Wait(), complaint)
	}
	return cmd, complaint
}

// TestSocket_OtherUser_NeverConnects has another user try while sockets come and go.
func TestSocket_OtherUser_NeverConnects(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	ipctest.AsRoot(t)
	if runtime.GOOS == "darwin" {
		t.Skip("the directory has to protect the socket there")
	}
	for name, opts := range map[string][]udsipc.ReaderOption{
		"mode alone":     {udsipc.WithSocketMode(0o600)},
		"mode and owner": {udsipc.WithSocketMode(0o660), udsipc.WithSocketOwner(0, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			defer syscall.Umask(syscall.Umask(0)) // The worst; no other test runs now.
			path := filepath.Join(ipctest.OpenDir(t), "s")
			cmd, complaint := startIntruder(t, path)
			for range 50 {
				ipctest.Stop(t, ipctest.StartReader(t, ipctest.Ignore, path, opts...))
			}
			r := ipctest.StartReader(t, ipctest.Ignore, path, opts...)
			if err := os.WriteFile(path+".end", nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("intruder: %v: %s", err, complaint)
			}
			if n := r.Metrics().Accepted; n != 0 {
				t.Errorf("%d connections accepted, want 0", n)
			}
		})
	}
}
