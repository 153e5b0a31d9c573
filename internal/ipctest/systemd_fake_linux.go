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

// A FakeSystemd receives the notifications of a service and stores its descriptors.
type FakeSystemd struct {
	Conn     *net.UnixConn
	messages chan string
	limit    int // The limit of stored descriptors; 0: none.
	mu       sync.Mutex
	gate     chan struct{} // Barriers are answered after it is closed; may be nil.
	stored   []StoredFile
}

// A StoredFile is a stored descriptor.
type StoredFile struct {
	Name string
	File *os.File
}

// FakeNotify starts a FakeSystemd at a path or an abstract name.
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

// take handles a notification as systemd does, and passes it to the test.
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
		for len(files) > 0 && (f.limit == 0 || len(f.stored) < f.limit) { // The rest is closed.
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

// HoldBarriers answers barriers only after gate is closed.
func (f *FakeSystemd) HoldBarriers(gate chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gate = gate
}

// LimitTo limits the number of stored descriptors.
func (f *FakeSystemd) LimitTo(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limit = n
}

// Put stores a descriptor.
func (f *FakeSystemd) Put(s StoredFile) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stored = append(f.stored, s)
}

// Names returns the names of the stored descriptors.
func (f *FakeSystemd) Names() (names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.stored {
		names = append(names, s.Name)
	}
	return names
}

// Forget removes the stored descriptors whose name contains part.
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

// Says waits for a notification with this prefix, and returns it. It skips others.
func (f *FakeSystemd) Says(tb testing.TB, prefix string) string {
	tb.Helper()
	for {
		if message := Await(tb, prefix, f.messages); strings.HasPrefix(message, prefix) {
			return message
		}
	}
}

// Drain skips the notifications that have been sent so far.
func (f *FakeSystemd) Drain(tb testing.TB) {
	tb.Helper()
	conn, err := net.DialUnix("unixgram", nil, f.Conn.LocalAddr().(*net.UnixAddr))
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close()
	MustWrite(tb, conn, []byte("all is read"))
	f.Says(tb, "all is read")
}

// Silent checks that no notification with this prefix comes within wait.
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

// Service returns a process in a role that gets the stored descriptors.
func (f *FakeSystemd) Service(tb testing.TB, role string, environment ...string) *exec.Cmd {
	tb.Helper()
	f.Drain(tb) // systemd too reads all notifications of a process before it starts the next.
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
		duplicate, err := syscall.Dup(int(s.File.Fd())) // The original may be closed as soon as the process runs.
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

// Generation starts the next process of a service and waits until it is ready.
func (f *FakeSystemd) Generation(tb testing.TB, environment ...string) *exec.Cmd {
	tb.Helper()
	cmd := f.Service(tb, "collector", environment...)
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	for _, file := range cmd.ExtraFiles {
		file.Close()
	}
	tb.Cleanup(func() { _ = cmd.Process.Kill() }) // No effect if it has ended.
	f.Says(tb, "READY=1")
	return cmd
}

// End stops a process with a signal; it must exit without an error.
func (f *FakeSystemd) End(tb testing.TB, cmd *exec.Cmd, how os.Signal) {
	tb.Helper()
	if err := cmd.Process.Signal(how); err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		tb.Fatal(fmt.Errorf("the service: %w", err))
	}
}
