// SPDX-License-Identifier: Apache-2.0

package publish_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/publish"
)

func init() {
	// Publishes until its standard input ends.
	ipctest.Roles["publish"] = func() error {
		writer, err := udsipc.NewWriter("/nobody/listens", udsipc.WithPublishedMetrics("other"),
			udsipc.WithWriterErrorCallback(func(err error, _ string) {
				if !errors.Is(err, udsipc.ErrNoConsumer) {
					fmt.Println(err)
				}
			}))
		if err != nil {
			return err
		}
		if err := writer.Start(); err != nil {
			return err
		}
		fmt.Println("started")
		_, err = io.Copy(io.Discard, os.Stdin)
		return err
	}
	// Lists a folder, and asks each socket for a snapshot.
	ipctest.Roles["look"] = func() error {
		found, err := publish.Find(os.Getenv("UDSIPC_TEST_FOLDER"))
		for _, e := range found {
			client, err := e.Dial(context.Background())
			if err != nil {
				fmt.Println(e.Name, err)
				continue
			}
			_, err = client.Next(patience)
			fmt.Println(e.Name, err)
		}
		return err
	}
}

// asNobody returns a process in a role, of a user without privileges.
func asNobody(t *testing.T, dir, role string, environment ...string) *exec.Cmd {
	t.Helper()
	cmd := ipctest.Process(t, role, environment...)
	cmd.Path = ipctest.CopyBinary(t, dir, cmd.Path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ipctest.Nobody, Gid: ipctest.Nobody}}
	return cmd
}

// TestPublication_OtherUser_IsSeenByRoot, who changes nothing of it. A killed process leaves a socket, which its user
// removes.
func TestPublication_OtherUser_IsSeenByRoot(t *testing.T) {
	ipctest.AsRoot(t)
	dir := ipctest.OpenDir(t)
	session := filepath.Join(dir, "session")
	folder := filepath.Join(session, "udsipc")
	if err := errors.Join(os.Mkdir(session, 0o700), os.Chown(session, ipctest.Nobody, ipctest.Nobody)); err != nil {
		t.Fatal(err)
	}
	cmd := asNobody(t, dir, "publish", "XDG_RUNTIME_DIR="+session)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "started\n" {
		t.Fatalf("%q, %v", line, err)
	}
	endpoint := only(t, folder)
	client := dial(t, endpoint)
	if s, err := client.Next(patience); err != nil || s.PID != cmd.Process.Pid || endpoint.UID != ipctest.Nobody {
		t.Errorf("%+v, %v", s, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // It was killed.
	if _, err := endpoint.Dial(t.Context()); !errors.Is(err, publish.ErrStale) {
		t.Errorf("%v, want ErrStale", err)
	}
	if ipctest.Lstat(t, endpoint.Path) == nil {
		t.Error("root has removed the socket of another user")
	}
	out, err := asNobody(t, dir, "look", "UDSIPC_TEST_FOLDER="+folder).CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "other udsipc: the process that published metrics has ended") {
		t.Errorf("%s, %v", out, err)
	}
	ipctest.CheckEmpty(t, folder)
}

// TestPublication_OtherUser_GetsNothing: neither by the directory, nor if its permissions were taken away later.
func TestPublication_OtherUser_GetsNothing(t *testing.T) {
	ipctest.AsRoot(t)
	dir := ipctest.OpenDir(t)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	folder := filepath.Join(dir, "udsipc")
	published(t, map[string]int{"sent": 1})
	path := only(t, folder).Path
	out, err := asNobody(t, dir, "look", "UDSIPC_TEST_FOLDER="+folder).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "permission denied") {
		t.Errorf("%s, %v", out, err)
	}
	if err := errors.Join(os.Chmod(folder, 0o755), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	cmd := asNobody(t, dir, "connect", "UDSIPC_TEST_FOLDER="+path)
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "0 bytes\n" {
		t.Errorf("%s, %v", out, err)
	}
}

func init() {
	ipctest.Roles["connect"] = func() error {
		conn, err := net.Dial("unix", os.Getenv("UDSIPC_TEST_FOLDER"))
		if err != nil {
			return err
		}
		all, err := io.ReadAll(conn)
		fmt.Println(len(all), "bytes")
		return err
	}
}

// TestPublication_Idle_IsOneGoroutine that waits for a client.
func TestPublication_Idle_IsOneGoroutine(t *testing.T) {
	private(t)
	published(t, struct{}{})
	stacks := make([]byte, 1<<20)
	all := string(stacks[:runtime.Stack(stacks, true)])
	if n := strings.Count(all, "created by github.com/udsipc/udsipc/internal/publish."); n != 1 {
		t.Errorf("%d goroutines of publications, want the one that accepts:\n%s", n, all)
	}
}

func init() {
	// Listens, and answers each client.
	ipctest.Roles["impostor"] = func() error {
		listener, err := net.Listen("unix", os.Getenv("UDSIPC_TEST_FOLDER"))
		if err != nil {
			return err
		}
		fmt.Println("started")
		for {
			conn, err := listener.Accept()
			if err != nil {
				return err
			}
			fmt.Fprintln(conn, "{}")
		}
	}
}

// TestDial_OtherUserListens_IsRefused, although the socket file belongs to the owner of the folder.
func TestDial_OtherUserListens_IsRefused(t *testing.T) {
	ipctest.AsRoot(t)
	dir := ipctest.OpenDir(t)
	theirs := filepath.Join(dir, "theirs")
	if err := errors.Join(os.Mkdir(theirs, 0o700), os.Chown(theirs, ipctest.Nobody, ipctest.Nobody)); err != nil {
		t.Fatal(err)
	}
	cmd := asNobody(t, dir, "impostor", "UDSIPC_TEST_FOLDER="+filepath.Join(theirs, "s"))
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "started\n" {
		t.Fatalf("%q, %v", line, err)
	}
	folder := filepath.Join(dir, "ours")
	path := filepath.Join(folder, "1-1-x.sock")
	err = errors.Join(os.Mkdir(folder, 0o700), os.Rename(filepath.Join(theirs, "s"), path), os.Chown(path, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := only(t, folder).Dial(t.Context()); !errors.Is(err, udsipc.ErrUnauthorized) {
		t.Errorf("%v, want ErrUnauthorized", err)
	}
}
