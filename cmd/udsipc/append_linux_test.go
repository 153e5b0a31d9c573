// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestAppendFile_PipeForTornEnd_IsRefused: a pipe that nobody reads in the place of FILE.torn does not hold the start.
func TestAppendFile_PipeForTornEnd_IsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("one\nhalf"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path+".torn", 0o600); err != nil {
		t.Fatal(err)
	}
	a := &appendFile{flags: &appendFlags{path: path}, log: t.Logf, now: time.Now}
	if err := a.open(); err == nil || !strings.Contains(err.Error(), "f.torn: not a regular file") {
		t.Errorf("got %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "one\nhalf" {
		t.Errorf("the file has %q, %v", text, err)
	}
}
