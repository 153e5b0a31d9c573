// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package spool_test

import (
	"errors"
	"io/fs"
	"os"
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

	w = p.open()
	if err := os.RemoveAll(p.dir); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("Close without a message: %v", err)
	}
}
