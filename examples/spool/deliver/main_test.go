// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/spool"
)

func TestDeliver_Left_IsSent(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no spool")
	}
	base := t.TempDir()
	dir, address := filepath.Join(base, "spool"), filepath.Join(base, "s")
	if err := deliver(t.Context(), dir, address, 0); err != nil {
		t.Errorf("a missing spool: %v", err)
	}
	w, err := spool.NewWriter(dir, address)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.WriteMessage([]byte("left")); err != nil {
		t.Fatal(err)
	}
	if err := deliver(t.Context(), dir, address, 0); !errors.Is(err, spool.ErrSpoolInUse) {
		t.Errorf("while a Writer has it: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	err = deliver(t.Context(), dir, address, 100*time.Millisecond) // It knows by then that there is no socket.
	if !errors.Is(err, spool.ErrLeft) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a reader: %v", err)
	}
	got := make(chan string, 10)
	r, err := udsipc.NewReader(func(data []byte) error { got <- string(data); return nil }, address)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 2 { // The second has nothing to send.
		if err := deliver(t.Context(), dir, address, 0); err != nil {
			t.Error(err)
		}
	}
	if len(got) != 1 || <-got != "left" {
		t.Errorf("%d messages, want one", len(got))
	}
}
