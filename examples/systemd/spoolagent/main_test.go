// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

func TestAgent_Sends(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no spool")
	}
	base := t.TempDir()
	dir, address := filepath.Join(base, "spool"), filepath.Join(base, "s")
	got := make(chan string, 100)
	r, err := udsipc.NewReader(func(data []byte) error { got <- string(data); return nil }, address)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // The second goes on in the same spool.
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- run(ctx, dir, address, time.Hour) }() // Ends with ctx.
		if line := <-got; !strings.HasSuffix(line, "message 1") {
			t.Errorf("got %q, want message 1", line)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if err := r.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
