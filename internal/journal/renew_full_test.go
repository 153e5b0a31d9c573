// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"errors"
	"testing"

	"github.com/udsipc/udsipc/internal/disktest"
	"github.com/udsipc/udsipc/internal/journal"
)

// TestGiveUp_FullDisk_WritesNothing until there is room for all: it is tried again and again, and may be a gibibyte.
func TestGiveUp_FullDisk_WritesNothing(t *testing.T) {
	w, writer := restored(t)
	for w.write(1) == nil && w.log.Counts().Messages < 30 {
	}
	w.disk.Quota = 1 << 20
	free, err := w.disk.Free()
	if err != nil {
		t.Fatal(err)
	}
	w.disk.Quota -= int64(free) - 300 // Room for one segment, but not for all.
	writes := 0
	w.disk.Fault = func(op disktest.Op, _ string) error {
		if op == disktest.OpWrite || op == disktest.OpCreate {
			writes++
		}
		return nil
	}
	for range 3 {
		if err := w.log.GiveUp(writer, 1000); !errors.Is(err, journal.ErrFull) {
			t.Errorf("%v, want %v", err, journal.ErrFull)
		}
	}
	if writes > 0 {
		t.Errorf("%d writes", writes)
	}
	w.disk.Quota += 1 << 20
	if err := w.log.GiveUp(writer, 1000); err != nil {
		t.Error(err)
	}
	w.log.Close()
}
