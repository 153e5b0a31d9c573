// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

func TestAgent_Sends(t *testing.T) {
	address := filepath.Join(t.TempDir(), "s")
	got := make(chan string, 100)
	r, err := udsipc.NewReader(func(data []byte) error { got <- string(data); return nil }, address)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx, address, time.Millisecond) }() // Ends with ctx.
	for _, want := range []string{"message 1", "message 2"} {
		if line := <-got; !strings.HasSuffix(line, want) {
			t.Errorf("got %q, want %q", line, want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := r.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
