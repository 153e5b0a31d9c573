// SPDX-License-Identifier: Apache-2.0

package receiver

// A server with sockets that systemd has passed. These tests run themselves in a process that gets some.

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/wire"
)

const passedVariable = "UDSIPC_TEST_PASSED"

// cannotExecute is the exit status of a shell whose exec fails (POSIX, sh).
const cannotExecute = 126

// runChild runs the test in a process of its own. The first descriptors are passed under these names; the
// others follow.
func runChild(t *testing.T, names []string, files ...*os.File) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, program,
		"-test.run=^"+t.Name()+"$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), passedVariable+"=1", "LISTEN_FDS="+strconv.Itoa(len(names)),
		"LISTEN_FDNAMES="+strings.Join(names, ":"))
	cmd.ExtraFiles = files
	output := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		file.Close() // Only the child has them, so that their peers see its end of them.
	}
	err = cmd.Wait()
	if cmd.ProcessState.ExitCode() == cannotExecute {
		t.Skip("an emulator runs this program, and the kernel cannot start it")
	}
	if err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

// isChild says whether this is the process that gets the sockets.
func isChild() bool { return os.Getenv(passedVariable) != "" }

// connAt returns the connection that was passed at a number.
func connAt(t *testing.T, fd int) *net.UnixConn {
	t.Helper()
	file := os.NewFile(uintptr(fd), "passed")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.UnixConn)
}

// connected returns two ends of a connection.
func connected(t *testing.T) (a, b *os.File) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b = os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b")
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// TestPassed_OneConnection_IsServedToItsEnd: the server of a service with Accept=yes ends with its connection.
func TestPassed_OneConnection_IsServedToItsEnd(t *testing.T) {
	if !isChild() {
		near, far := connected(t)
		runChild(t, []string{"connection"}, near, far)
		return
	}
	conn := connAt(t, 4)
	newManager(t)
	s := socketServer(t, filepath.Join(shortDir(t), "s"), Config{CheckPassed: func(net.Addr) error { return nil }},
		accepts)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	<-s.acceptLoopDone
	s.sends(conn, "a")
	s.notedSoon("1 a false")
	if err := s.prepareHandOver(); err != nil || s.handingOver || s.IsStopping() {
		t.Errorf("%v, handing over %v, stopping %v", err, s.handingOver, s.IsStopping())
	}
	_ = conn.CloseWrite()
	s.hearsReport(conn, wire.CloseReport{FirstUnread: 2, Limit: 100})
	<-s.Finished()
	if got := s.Snapshot(); got.Accepted != 1 || got.AcceptErrors != 0 || got.IdleClosed != 0 || s.Failure() != nil {
		t.Errorf("%+v, %v", got, s.Failure())
	}
}

// TestPassed_RejectedConnection_IsClosed, so that its peer does not wait.
func TestPassed_RejectedConnection_IsClosed(t *testing.T) {
	if !isChild() {
		near, far := connected(t)
		runChild(t, []string{"connection"}, near, far)
		return
	}
	conn := connAt(t, 4)
	s := socketServer(t, "/s", Config{CheckPassed: func(net.Addr) error { return errAccept }}, accepts)
	if err := s.Start(); !errors.Is(err, errAccept) {
		t.Error(err)
	}
	readsEnd(t, conn)
}

// TestPassed_Listener_StaysForNextProcess: neither a check that fails nor the end of the server closes it, and
// it is not
// stored again.
func TestPassed_Listener_StaysForNextProcess(t *testing.T) {
	path := os.Getenv("UDSIPC_TEST_PATH")
	if !isChild() {
		path = filepath.Join(shortDir(t), "s")
		t.Setenv("UDSIPC_TEST_PATH", path)
		near, far := connected(t)
		stored := storedListener(t, path)
		defer stored.File.Close()
		runChild(t, []string{"app.socket", "udsipc-plain-key"}, stored.File, near, far)
		return
	}
	conn := connAt(t, 5)
	m := newManager(t)
	check := errAccept
	s := socketServer(t, path, Config{CheckPassed: func(net.Addr) error { return check }}, accepts)
	var failure *errdefs.Error
	if err := s.Start(); !errors.As(err, &failure) || failure.Op != errdefs.OpActivate || !errors.Is(err, errAccept) {
		t.Error(err)
	}
	check = nil
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	s.sends(conn, "a")
	s.notedSoon("1 a false")
	if got := s.Snapshot(); got.Inherited != 1 {
		t.Errorf("%+v", got)
	}
	if err := s.HandOver(t.Context()); err != nil {
		t.Error(err)
	}
	if got, want := m.kinds(), []string{"memory", "plain"}; !slices.Equal(got, want) {
		t.Errorf("stored are %q, want %q", got, want)
	}
	waiting := dialAt(t, path)
	s.sends(waiting, "b")
	next := socketServer(t, path, Config{CheckPassed: func(net.Addr) error { return nil }}, accepts)
	if err := next.Start(); err != nil {
		t.Fatal(err)
	}
	next.notedSoon("1 b false")
	_ = waiting.CloseWrite()
	stopped := make(chan error, 1)
	go func() { stopped <- next.Stop(context.Background()) }() // Ends with its steps.
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	dialAt(t, path) // It waits for the next process.
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}
