// SPDX-License-Identifier: Apache-2.0

package spool_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/disktest"
	"github.com/udsipc/udsipc/spool"
)

// TestWriter_SyncOfHangingDisk_IsBounded: calls that give up leave two syncs behind, not one each.
func TestWriter_SyncOfHangingDisk_IsBounded(t *testing.T) {
	p := newPlace(t)
	d := disktest.New()
	w, err := spool.OpenOn(d, 1, p.address, quiet(), spool.WithSync(-1))
	if err != nil {
		t.Fatal(err)
	}
	p.write(w, 0, 1)
	hangs, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	d.Fault = func(op disktest.Op, _ string) error {
		if op == disktest.OpSync {
			once.Do(func() { close(hangs); <-goOn })
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := w.Sync(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a sync of a disk that hangs: %v", err)
	}
	<-hangs
	before := runtime.NumGoroutine()
	for range 50 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Microsecond)
		_ = w.Sync(ctx)
		cancel()
	}
	if after := runtime.NumGoroutine(); after > before+5 {
		t.Errorf("%d goroutines before, %d after", before, after)
	}
	close(goOn)
	if err := w.Sync(limit(t)); err != nil {
		t.Errorf("a sync of a disk that goes on: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}
