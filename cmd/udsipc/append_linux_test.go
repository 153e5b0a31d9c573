// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
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

// TestAppendFile_NoDescriptors_IsRetried: connections may take all of them while the file is renamed.
func TestAppendFile_NoDescriptors_IsRetried(t *testing.T) {
	dir := t.TempDir()
	a, _ := newAppendFile(t, &appendFlags{path: filepath.Join(dir, "f"), sync: true}, false)
	failures := []error{syscall.EMFILE, syscall.ENFILE, nil}
	a.toDisk = func(*os.File) (err error) {
		err, failures = failures[0], failures[1:]
		return err
	}
	log := &console{name: "listen", out: io.Discard}
	if err := a.write(t.Context(), log, []byte("one\n")); err != nil || len(failures) > 0 {
		t.Errorf("got %v, %d failures to come", err, len(failures))
	}
	expectContents(t, dir, "f=one\n")
}
