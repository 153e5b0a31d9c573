// SPDX-License-Identifier: Apache-2.0

package sidecar_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A machine is a directory in which the containers of a test run: it has the tool, and the directories that they share.
type machine struct{ root string }

const (
	program = "/usr/bin/udsipc" // As the Dockerfile has it.
	address = "/run/app/app.sock"
	file    = "/var/log/app/events.jsonl"
)

// newMachine builds the tool. The test needs root, for namespaces with users of their own.
func newMachine(t *testing.T) machine {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("this takes root")
		}
		t.Skip("this takes root")
	}
	root, err := os.MkdirTemp("", "sidecar") // Shorter than TempDir: the path of a socket is limited.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	build := exec.Command("go", "build", "-o", filepath.Join(root, program), "./cmd/udsipc")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	for _, dir := range []string{filepath.Dir(address), filepath.Dir(file)} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(root, dir), 0o777); err != nil { // As an emptyDir.
			t.Fatal(err)
		}
	}
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	return machine{root}
}

// A container is how a program runs.
type container struct {
	uid, gid uint32
	groups   []uint32
	flags    uintptr // Namespaces, beside those of processes, IPC and host name.
	shift    int     // With CLONE_NEWUSER: what its UIDs and GIDs are more, outside.
}

// command returns a command in a container. Its directories are those of the machine.
func (m machine) command(t *testing.T, c container, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env, cmd.Dir = []string{}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot: m.root, Credential: &syscall.Credential{Uid: c.uid, Gid: c.gid, Groups: c.groups},
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS | c.flags,
		Pdeathsig:  syscall.SIGKILL,
	}
	if c.flags&syscall.CLONE_NEWUSER != 0 {
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: c.shift, Size: 65536}}
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = ids, ids
		cmd.SysProcAttr.GidMappingsEnableSetgroups = true
	}
	return cmd
}

// run runs a command to its end.
func (m machine) run(t *testing.T, c container, input string, args ...string) (string, error) {
	t.Helper()
	cmd := m.command(t, c, args...)
	cmd.Stdin = strings.NewReader(input)
	output, err := cmd.CombinedOutput()
	return string(output), err
}

// listen starts a reader, and waits until it listens. The returned function ends it, and returns what it has written.
func (m machine) listen(t *testing.T, c container, args ...string) (end func() []byte) {
	t.Helper()
	cmd := m.command(t, c, args...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	at := args[len(args)-1]
	for tries := 0; m.doctor(t, c, at) != nil; tries++ {
		if tries == 1000 {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			t.Fatalf("%v does not listen: %s", args, &output)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return func() []byte {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %v: %s", args, err, &output)
		}
		return output.Bytes()
	}
}

func (m machine) doctor(t *testing.T, c container, at string) error {
	_, err := m.run(t, c, "", "doctor", "--quiet", at)
	return err
}

// A line is what the tests read of a line of udsipc listen --json.
type line struct {
	Peer peer
	Data string
}

type peer struct{ PID, UID, GID int }

func lines(t *testing.T, from io.Reader) (list []line) {
	t.Helper()
	scanner := bufio.NewScanner(from)
	for scanner.Scan() {
		var l line
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
			t.Fatalf("%q: %v", scanner.Text(), err)
		}
		list = append(list, l)
	}
	return list
}

// TestNetworkNamespaces: a path works across network namespaces, an abstract name within one.
func TestNetworkNamespaces(t *testing.T) {
	m := newMachine(t)
	name := "@" + filepath.Base(m.root)
	if err := os.Chmod(filepath.Join(m.root, filepath.Dir(address)), 0o755); err != nil {
		t.Fatal(err)
	}
	own := container{flags: syscall.CLONE_NEWNET}
	end := m.listen(t, container{}, "listen", address)
	if m.doctor(t, own, address) != nil {
		t.Error("a path does not work across network namespaces")
	}
	end()
	end = m.listen(t, container{}, "listen", name)
	if m.doctor(t, own, name) == nil {
		t.Error("an abstract name works across network namespaces")
	}
	end()
}

// TestUserNamespaces: the reader sees a UID as its own namespace has it, and 65534 for one that it does not have.
func TestUserNamespaces(t *testing.T) {
	m := newMachine(t)
	const shift, uid, gid = 100_000, 10001, 20000
	dir := filepath.Join(m.root, filepath.Dir(address))
	if err := errors.Join(os.Chown(dir, shift+uid, shift+gid), os.Chmod(dir, os.ModeSetgid|0o755)); err != nil {
		t.Fatal(err)
	}
	reader := container{uid: uid, gid: uid, groups: []uint32{gid}, flags: syscall.CLONE_NEWUSER, shift: shift}
	same := reader
	same.uid = 10002
	end := m.listen(t, reader, "listen", "--json", "--mode", "0666", address)
	for _, writer := range []container{
		same,
		{uid: 10003, flags: syscall.CLONE_NEWUSER, shift: 2 * shift}, // A namespace beside it.
		{uid: shift + 10004}, // The host.
	} {
		if output, err := m.run(t, writer, "hello\n", "send", "--ack", address); err != nil {
			t.Errorf("%+v: %v: %s", writer, err, output)
		}
	}
	var got []int
	output := end()
	for _, l := range lines(t, bytes.NewReader(output[:bytes.LastIndexByte(output, '}')+1])) {
		got = append(got, l.Peer.UID)
	}
	if want := []int{10002, 65534, 10004}; !slices.Equal(got, want) {
		t.Errorf("the reader sees the UIDs %v, want %v", got, want)
	}
}
