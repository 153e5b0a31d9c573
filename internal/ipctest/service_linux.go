// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"bufio"
	"bytes"
	"os/exec"
	"testing"
)

// A service is a process in a role.
type service struct {
	tb    testing.TB
	cmd   *exec.Cmd
	Lines chan string
	ended chan error
	errs  bytes.Buffer
}

// Says waits until the process prints a line. It fails the test at once if the process exits without that.
func (s *service) Says(want string) {
	s.tb.Helper()
	line, open := AwaitOpen(s.tb, want, s.Lines)
	if !open {
		s.Ends()
		s.tb.Fatalf("the service exited before it said %q", want)
	}
	if line != want {
		s.tb.Fatalf("the service says %q, want %q", line, want)
	}
}

// Ends waits for the process to exit without an error.
func (s *service) Ends() {
	s.tb.Helper()
	if err := Await(s.tb, "the end of the service", s.ended); err != nil {
		s.tb.Errorf("service: %v: %s", err, s.errs.String())
	}
}

// Fails waits for the process to exit with an error, and returns its output.
func (s *service) Fails() string {
	s.tb.Helper()
	if err := Await(s.tb, "the end of the service", s.ended); err == nil {
		s.tb.Error("the service did not fail")
	}
	return s.errs.String()
}

// StartService starts a process that is killed at the end of the test.
func StartService(tb testing.TB, cmd *exec.Cmd) *service {
	tb.Helper()
	s := &service{tb: tb, cmd: cmd, Lines: make(chan string, 1000), ended: make(chan error, 1)}
	cmd.Stderr = &s.errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	waited := make(chan struct{})
	go func() { // Ends with the process.
		defer close(waited)
		scanner := bufio.NewScanner(out)
		for scanner.Scan() {
			s.Lines <- scanner.Text()
		}
		close(s.Lines)
		s.ended <- cmd.Wait()
	}()
	tb.Cleanup(func() {
		_ = cmd.Process.Kill() // No effect if it has ended.
		<-waited
	})
	return s
}
