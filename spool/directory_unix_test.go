// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package spool_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/udsipc/udsipc/spool"
)

// TestWriter_DirectoryRemoved_TellsOfIt: while it runs, and at its end if messages are left.
func TestWriter_DirectoryRemoved_TellsOfIt(t *testing.T) {
	p := newPlace(t)
	w := p.open(spool.WithMinFree(1))
	p.write(w, 0, 3)
	if err := os.RemoveAll(p.dir); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteMessage(make([]byte, 5<<20)); !errors.Is(err, fs.ErrNotExist) { // So large that it looks.
		t.Errorf("a write: %v, want %v", err, fs.ErrNotExist)
	}
	if err := w.Close(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Close: %v, want %v", err, fs.ErrNotExist)
	}

	w = p.open(spool.WithSegmentSize(4 << 10))
	for range 3 {
		if err := w.WriteMessage(make([]byte, 4<<10)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(p.dir, "*.seg"))
	if err := errors.Join(err, os.Remove(files[1])); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), ": 1 messages") {
		t.Errorf("Close without one of three files: %v, want %v", err, fs.ErrNotExist)
	}
	if err := os.RemoveAll(p.dir); err != nil {
		t.Fatal(err)
	}

	w = p.open()
	if err := os.RemoveAll(p.dir); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("Close without a message: %v", err)
	}
}

// TestDeliver_NoSpool_StaysAsItIs: a pattern may match more directories than those of spools.
func TestDeliver_NoSpool_StaysAsItIs(t *testing.T) {
	p := newPlace(t)
	file := filepath.Join(p.dir, "state")
	if err := errors.Join(os.Mkdir(p.dir, 0o755), os.WriteFile(file, []byte("running"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := spool.Deliver(limit(t), p.dir, p.address, quiet()); err != nil {
		t.Error(err)
	}
	if _, err := spool.NewWriter(p.dir, p.address, quiet()); !errors.Is(err, spool.ErrUnsafe) {
		t.Errorf("NewWriter: %v, want %v", err, spool.ErrUnsafe)
	}
	text, err := os.ReadFile(file)
	entries, listErr := os.ReadDir(p.dir)
	if string(text) != "running" || len(entries) != 1 || errors.Join(err, listErr) != nil {
		t.Errorf("%q, %v; want the file as it was, and no other", text, entries)
	}
}

func TestNewWriter_EmptyPath_IsAnError(t *testing.T) {
	if _, err := spool.NewWriter("", "/tmp/s"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("%v, want %v", err, fs.ErrInvalid)
	}
}
