// SPDX-License-Identifier: Apache-2.0

package internal_test

// This file runs the program of the README.

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestReadme_Program_Runs: the program collects, is sent two messages by itself, and ends with Ctrl-C.
func TestReadme_Program_Runs(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot send an interrupt there")
	}
	list := snippets(t)
	i := slices.IndexFunc(list, func(s snippet) bool { return s.page == "README.md" && s.isProgram() })
	if i < 0 {
		t.Fatal("README.md has no program")
	}
	dir, err := os.MkdirTemp("", "readme") // Shorter than TempDir: a socket's path is limited.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "hello")
	if err := os.WriteFile(file, []byte(list[i].text), 0o600); err != nil {
		t.Fatal(err)
	}
	goCommand(t, "build", "-o", binary, file)

	program := func(args ...string) *exec.Cmd {
		cmd := exec.Command(binary, args...)
		cmd.Env = append(os.Environ(), "TMPDIR="+dir)
		cmd.Stderr = os.Stderr
		return cmd
	}
	collector := program()
	out, err := collector.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := collector.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = collector.Process.Kill() })
	if err := program("hello", "again").Run(); err != nil { // Waits for the collector, if it has not started yet.
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for _, want := range []string{"hello", "again"} {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("got %q, %v, want %q", lines.Text(), lines.Err(), want)
		}
	}
	if err := collector.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if lines.Scan() {
		t.Errorf("got %q, want the end", lines.Text())
	}
	if err := collector.Wait(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.sock")); len(left) > 0 {
		t.Errorf("left behind: %s", strings.Join(left, " "))
	}
}
