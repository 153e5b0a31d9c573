// SPDX-License-Identifier: Apache-2.0

package main

// This file runs the program in the tests: in this process, or as one of its own.

import (
	"bytes"
	"context"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
)

func init() {
	ipctest.Roles["udsipc"] = func() error {
		main()
		return nil
	}
}

func TestMain(m *testing.M) { ipctest.Main(m) }

// A result is what a command has done.
type result struct {
	code           int
	stdout, stderr string
}

// execute runs the program in this process until it ends.
func execute(t *testing.T, stdin io.Reader, args ...string) result {
	t.Helper()
	return start(t, stdin, args...).wait(t)
}

// A running is the program in this process.
type running struct {
	interrupt, force context.CancelFunc // The first and the second interrupt.
	stdout, stderr   syncBuffer
	env              *env
	done             chan int
	code             int
	ended            bool
}

// start starts the program. It is forced to end with the test.
func start(t *testing.T, stdin io.Reader, args ...string) *running {
	t.Helper()
	return startWith(t, &env{stdin: stdin}, args...)
}

// startWith starts the program in an environment, of which it sets what is missing.
func startWith(t *testing.T, e *env, args ...string) *running {
	t.Helper()
	r := &running{done: make(chan int, 1), env: e}
	var force, ctx context.Context
	force, r.force = context.WithCancel(context.Background())
	ctx, r.interrupt = context.WithCancel(force)
	e.force = force
	e.self = func(_ context.Context, args ...string) *exec.Cmd { return process(t, args...) }
	if e.stdout == nil {
		e.stdout = &r.stdout
	}
	e.stderr = &r.stderr
	if e.stdin == nil {
		e.stdin = strings.NewReader("")
	}
	e.getenv = func(string) string { return "" }
	go func() { // Ends with the test.
		code := -1
		defer func() { r.done <- code }() // Also if the test is failed or skipped in here.
		code = run(ctx, e, args)
	}()
	t.Cleanup(func() {
		r.force()
		r.wait(t)
	})
	return r
}

// wait waits for the end of the program.
func (r *running) wait(t *testing.T) result {
	t.Helper()
	if !r.ended {
		r.code, r.ended = ipctest.Await(t, "the end of the program", r.done), true
	}
	return result{r.code, r.stdout.String(), r.stderr.String()}
}

// stop interrupts the program once and waits for its end.
func (r *running) stop(t *testing.T) result {
	t.Helper()
	r.interrupt()
	return r.wait(t)
}

// awaitOutput waits until the standard output contains a text.
func (r *running) awaitOutput(t *testing.T, want string) {
	t.Helper()
	ipctest.Until(t, "the output has "+want, func() bool { return strings.Contains(r.stdout.String(), want) })
}

// awaitError waits until the standard error contains a text.
func (r *running) awaitError(t *testing.T, want string) {
	t.Helper()
	ipctest.Until(t, "the errors have "+want, func() bool { return strings.Contains(r.stderr.String(), want) })
}

// A syncBuffer is a bytes.Buffer for several goroutines.
type syncBuffer struct {
	mu     sync.Mutex // Guards buffer.
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// process returns a command that is the program as a process of its own.
func process(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := ipctest.Process(t, "udsipc")
	cmd.Args = append(cmd.Args, args...)
	return cmd
}

// socket returns an address for a test.
func socket(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "s")
}

// awaitListener waits until somebody listens at a socket.
func awaitListener(t *testing.T, address string) {
	t.Helper()
	ipctest.Until(t, "somebody listens", func() bool {
		conn, err := net.Dial("unix", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// expect compares what a command has done; the text is a part of its standard error.
func expect(t *testing.T, got result, code int, stderr string) {
	t.Helper()
	if got.code != code || !strings.Contains(got.stderr, stderr) {
		t.Errorf("code %d, want %d; the errors, want %q:\n%s", got.code, code, stderr, got.stderr)
	}
}
