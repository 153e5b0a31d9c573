// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// AsNobody starts a process of another user, which may enter the directory, and returns what it says.
func AsNobody(tb testing.TB, dir, role string, environment ...string) (cmd *exec.Cmd, output *bufio.Scanner) {
	tb.Helper()
	AsRoot(tb)
	cmd = Process(tb, role, environment...)
	self, err := os.ReadFile(cmd.Path) // The binary lies where the other user may not go.
	if err != nil {
		tb.Fatal(err)
	}
	cmd.Path = filepath.Join(dir, "binary")
	if err := os.WriteFile(cmd.Path, self, 0o755); err != nil && !errors.Is(err, syscall.ETXTBSY) {
		tb.Fatal(err)
	}
	if err := os.Chmod(cmd.Path, 0o755); err != nil {
		tb.Fatal(err)
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: Nobody, Gid: Nobody, Groups: []uint32{4242}},
	}
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill() // One that has ended is none the worse.
		_ = cmd.Wait()
	})
	return cmd, bufio.NewScanner(pipe)
}

// FileOf returns a duplicate of a socket.
func FileOf(tb testing.TB, socket interface{ File() (*os.File, error) }) *os.File {
	tb.Helper()
	file, err := socket.File()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { file.Close() })
	return file
}
