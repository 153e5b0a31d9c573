// SPDX-License-Identifier: Apache-2.0

package journal_test

// What a sync promises, and what it costs.

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/disktest"
	"github.com/udsipc/udsipc/internal/journal"
)

// TestSync_Returned_SurvivesTheMachine also if nothing else syncs: what was written, and what was found.
func TestSync_Returned_SurvivesTheMachine(t *testing.T) {
	for seed := range uint64(60) {
		w := newWorld(t, journal.Config{Sync: []time.Duration{-1, time.Hour}[seed%2], SegmentSize: 300})
		w.open()
		for range 8 {
			w.write(1)
		}
		if seed%4 < 2 {
			w.disk = w.disk.Kill()
			w.open()
		}
		failed := false
		w.disk.Fault = func(op disktest.Op, _ string) error {
			if op == disktest.OpSyncNames && seed%8 < 4 && !failed {
				failed = true
				return errDevice
			}
			return nil
		}
		if err := errors.Join(w.log.Sync(), w.log.Sync()); err != nil && !failed {
			t.Fatal(err)
		}
		w.disk.Fault = nil
		w.disk, w.boot = w.disk.PowerLoss(rand.New(rand.NewPCG(seed, 5))), w.boot+1
		w.open()
		w.read(100)
		w.wantAll(9)
		w.log.Close()
	}
}

// TestSync_Concurrent_IsNoError: segments are finished while they are synced.
func TestSync_Concurrent_IsNoError(t *testing.T) {
	for _, interval := range []time.Duration{-1, time.Hour} {
		w := newWorld(t, journal.Config{Sync: interval, SegmentSize: 200})
		w.open()
		var group sync.WaitGroup
		group.Go(func() {
			for range 2000 {
				if _, err := w.log.Append([]byte{1, 'a'}, 1); err != nil {
					t.Error(err)
				}
			}
		})
		for range 100 {
			if err := w.log.Sync(); err != nil {
				t.Error(err)
			}
		}
		group.Wait()
		if c := w.log.Counts(); c.SyncErrors > 0 {
			t.Errorf("sync %v: %d errors", interval, c.SyncErrors)
		}
		w.log.Close()
	}
}

// TestAppend_ManySegments_KeepsFewFilesOpen although none was synced in time.
func TestAppend_ManySegments_KeepsFewFilesOpen(t *testing.T) {
	for _, interval := range []time.Duration{-1, 0, time.Hour} {
		w := newWorld(t, journal.Config{Sync: interval, SegmentSize: 200})
		w.open()
		for range 1500 {
			if err := w.write(1); err != nil {
				t.Fatal(err)
			}
			if n := w.disk.OpenFiles(); n > 70 {
				t.Fatalf("sync %v: %d files are open", interval, n)
			}
		}
		w.check()
		w.read(1500)
		w.wantAll(1501)
		w.log.Close()
		if n := w.disk.OpenFiles(); n != 0 {
			t.Errorf("sync %v: %d files are open after Close", interval, n)
		}
	}
}

// TestRepair_Handled_CopiesNothing: what a failed sync may have lost was handled before it could be written again.
func TestRepair_Handled_CopiesNothing(t *testing.T) {
	w := newWorld(t, journal.Config{Sync: time.Hour, SegmentSize: 300})
	w.open()
	for range 30 {
		w.write(1)
	}
	syncs, creates, failing := 0, 0, true
	w.disk.Fault = func(op disktest.Op, _ string) error {
		switch op {
		case disktest.OpSync:
			if syncs++; syncs == 1 {
				return errDevice
			}
		case disktest.OpCreate:
			if creates++; failing {
				return errDevice
			}
		}
		return nil
	}
	if err := w.log.Sync(); err == nil {
		t.Fatal("no error, although nothing can be written again")
	}
	w.read(2) // More than the first segment.
	creates, failing = 0, false
	if err := w.log.Sync(); err != nil || creates > 0 {
		t.Errorf("%v, %d segments were written again", err, creates)
	}
	w.read(100)
	w.wantAll(31)
	w.log.Close()
}

// TestNext_Ahead_ReturnsWhatWasWrittenAgain: what a failed sync may have lost is read by the next start before anything
// is handled. The segments that copies have replaced are still there, and lie before them.
func TestNext_Ahead_ReturnsWhatWasWrittenAgain(t *testing.T) {
	w := newWorld(t, journal.Config{Sync: time.Hour, SegmentSize: 300})
	w.open()
	w.write(1)
	if err := w.log.Sync(); err != nil {
		t.Fatal(err)
	}
	for range 14 { // Three segments, and the first one is synced in part.
		w.write(1)
	}
	syncs := 0
	w.disk.Fault = func(op disktest.Op, _ string) error {
		if op == disktest.OpSync {
			if syncs++; syncs == 1 {
				return errDevice
			}
		}
		return nil
	}
	if err := w.log.Sync(); err != nil {
		t.Fatal(err)
	}
	w.disk = w.disk.Kill()
	w.open()
	if _, err := w.log.Welcomed(w.start.Writer, 0); err != nil {
		t.Fatal(err)
	}
	next := uint64(1)
	for b, err := w.log.Next(); err == nil; b, err = w.log.Next() {
		if b.First != next {
			t.Fatalf("message %d after %d", b.First, next-1)
		}
		next += uint64(b.Count)
	}
	if next != 16 {
		t.Errorf("messages up to %d, want 15", next-1)
	}
	w.log.Close()
}

// TestAppend_ManyAtOnce_FitTogether: messages that are written at once need no more room than each alone.
func TestAppend_ManyAtOnce_FitTogether(t *testing.T) {
	w := newWorld(t, journal.Config{Sync: 0, MaxBytes: 8000, DropOldest: true})
	w.open()
	frame := append([]byte{0xac, 0x02}, make([]byte, 300)...)
	var group sync.WaitGroup
	write := w.log.HoldWrites()
	for range 100 {
		before := w.log.Forming()
		group.Go(func() {
			if _, err := w.log.Append(frame, 1); err != nil {
				t.Error(err)
			}
		})
		for w.log.Forming() == before {
			runtime.Gosched()
		}
	}
	write()
	group.Wait()
	w.log.Close()
}
