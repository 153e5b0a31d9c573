// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"bufio"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// AsNobody starts a process in a role as the user Nobody, who may enter dir. It returns the process
// and its output.
func AsNobody(tb testing.TB, dir, role string, environment ...string) (cmd *exec.Cmd, output *bufio.Scanner) {
	tb.Helper()
	AsRoot(tb)
	cmd = Process(tb, role, environment...)
	cmd.Path = CopyBinary(tb, dir, cmd.Path)
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
		_ = cmd.Process.Kill() // No effect if it has ended.
		_ = cmd.Wait()
	})
	return cmd, bufio.NewScanner(pipe)
}

// FileOf returns a duplicate of the descriptor of a socket.
func FileOf(tb testing.TB, socket interface{ File() (*os.File, error) }) *os.File {
	tb.Helper()
	file, err := socket.File()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { file.Close() })
	return file
}
