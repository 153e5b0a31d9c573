// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A FakeSystemd listens where a service says how it is, and keeps descriptors.
type FakeSystemd struct {
	Conn     *net.UnixConn
	messages chan string
	limit    int // Of what is stored; 0 for none.
	mu       sync.Mutex
	gate     chan struct{} // Barriers wait until it is closed; nil for none.
	stored   []StoredFile
}

// A StoredFile is a descriptor that a service has left with systemd.
type StoredFile struct {
	Name string
	File *os.File
}

// FakeNotify starts one at a path or an @name.
func FakeNotify(tb testing.TB, name string) *FakeSystemd {
	tb.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		tb.Fatal(err)
	}
	f := &FakeSystemd{Conn: conn, messages: make(chan string, 10_000)}
	done := make(chan struct{})
	go func() { // Ends with conn.
		defer close(done)
		f.run()
	}()
	tb.Cleanup(func() {
		conn.Close()
		<-done
		for _, s := range f.stored {
			s.File.Close()
		}
	})
	return f
}

func (f *FakeSystemd) run() {
	for {
		buf, rights := make([]byte, 4096), make([]byte, 4096)
		n, m, _, _, err := f.Conn.ReadMsgUnix(buf, rights)
		if err != nil {
			return
		}
		f.take(string(buf[:n]), descriptorsOf(rights[:m]))
	}
}

func descriptorsOf(rights []byte) (files []*os.File) {
	messages, _ := syscall.ParseSocketControlMessage(rights)
	for i := range messages {
		fds, _ := syscall.ParseUnixRights(&messages[i])
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return files
}

// take does what systemd would, and then tells the test.
func (f *FakeSystemd) take(message string, files []*os.File) {
	var name string
	for line := range strings.SplitSeq(message, "\n") {
		if value, ok := strings.CutPrefix(line, "FDNAME="); ok {
			name = value
		}
	}
	f.mu.Lock()
	switch {
	case strings.HasPrefix(message, "FDSTORE=1\n"):
		for len(files) > 0 && (f.limit == 0 || len(f.stored) < f.limit) { // The others are closed.
			f.stored = append(f.stored, StoredFile{Name: name, File: files[0]})
			files = files[1:]
		}
	case strings.HasPrefix(message, "FDSTOREREMOVE=1\n"):
		var rest []StoredFile
		for _, s := range f.stored {
			if s.Name == name {
				s.File.Close()
			} else {
				rest = append(rest, s)
			}
		}
		f.stored = rest
	}
	gate := f.gate
	f.mu.Unlock()
	f.messages <- message
	if message == "BARRIER=1" && gate != nil {
		<-gate
	}
	for _, file := range files {
		file.Close()
	}
}

// HoldBarriers leaves barriers unanswered until gate is closed.
func (f *FakeSystemd) HoldBarriers(gate chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gate = gate
}

// LimitTo bounds what is stored.
func (f *FakeSystemd) LimitTo(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limit = n
}

// Put stores something.
func (f *FakeSystemd) Put(s StoredFile) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stored = append(f.stored, s)
}

// Names returns what is stored.
func (f *FakeSystemd) Names() (names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.stored {
		names = append(names, s.Name)
	}
	return names
}

// Forget loses what has a name with this part.
func (f *FakeSystemd) Forget(part string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var rest []StoredFile
	for _, s := range f.stored {
		if strings.Contains(s.Name, part) {
			s.File.Close()
		} else {
			rest = append(rest, s)
		}
	}
	f.stored = rest
}

// Says waits for a message that begins like this, and returns it; others are passed over.
func (f *FakeSystemd) Says(tb testing.TB, prefix string) string {
	tb.Helper()
	for {
		if message := Await(tb, prefix, f.messages); strings.HasPrefix(message, prefix) {
			return message
		}
	}
}

// Drain passes over what has been said.
func (f *FakeSystemd) Drain() {
	for {
		select {
		case <-f.messages:
		default:
			return
		}
	}
}

// Silent checks that nothing like this has been said, or is for a while.
func (f *FakeSystemd) Silent(tb testing.TB, prefix string, wait time.Duration) {
	tb.Helper()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case message := <-f.messages:
			if strings.HasPrefix(message, prefix) {
				tb.Errorf("%q was said", message)
			}
		case <-timer.C:
			return
		}
	}
}

// Service returns a process in a role that gets what is stored.
func (f *FakeSystemd) Service(tb testing.TB, role string, environment ...string) *exec.Cmd {
	tb.Helper()
	conn, err := net.DialUnix("unixgram", nil, f.Conn.LocalAddr().(*net.UnixAddr))
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close()
	MustWrite(tb, conn, []byte("all is read"))
	f.Says(tb, "all is read") // systemd too reads what a process has said before it starts another.
	f.mu.Lock()
	defer f.mu.Unlock()
	cmd := Process(tb, role, append(environment, "NOTIFY_SOCKET="+f.Conn.LocalAddr().String())...)
	cmd.Stderr = os.Stderr
	if len(f.stored) == 0 {
		return cmd
	}
	var names []string
	for _, s := range f.stored {
		names = append(names, s.Name)
		duplicate, err := syscall.Dup(int(s.File.Fd())) // Its own may be closed as soon as the process runs.
		if err != nil {
			tb.Fatal(err)
		}
		syscall.CloseOnExec(duplicate)
		file := os.NewFile(uintptr(duplicate), s.Name)
		tb.Cleanup(func() { file.Close() })
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
	}
	cmd.Args = []string{"sh", "-c", `LISTEN_PID=$$ exec "$0"`, cmd.Path}
	cmd.Path = "/bin/sh"
	cmd.Env = append(cmd.Env, "LISTEN_FDS="+strconv.Itoa(len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	return cmd
}

// Generation starts a process of a service and waits until it is ready.
func (f *FakeSystemd) Generation(tb testing.TB, environment ...string) *exec.Cmd {
	tb.Helper()
	cmd := f.Service(tb, "collector", environment...)
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	for _, file := range cmd.ExtraFiles {
		file.Close()
	}
	tb.Cleanup(func() { _ = cmd.Process.Kill() }) // Nothing, if it has ended.
	f.Says(tb, "READY=1")
	return cmd
}

// End has a process end by a signal, which must go well.
func (f *FakeSystemd) End(tb testing.TB, cmd *exec.Cmd, how os.Signal) {
	tb.Helper()
	if err := cmd.Process.Signal(how); err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		tb.Fatal(fmt.Errorf("the service: %w", err))
	}
}
