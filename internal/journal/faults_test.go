// SPDX-License-Identifier: Apache-2.0

package journal_test

// Disks that fail and disks that are full, at every place and at random ones.

import (
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/disk"
	"github.com/udsipc/udsipc/internal/disktest"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/journal"
)

var errDevice = errors.New("input/output error")

// writes appends up to so many batches, and returns the serial numbers of those that were accepted.
func (w *world) writes(random *rand.Rand, batches int, accepted map[uint64]bool) {
	w.t.Helper()
	for range batches {
		before := w.serial
		err := w.write(1 + random.IntN(3))
		for ; before < w.serial; before++ {
			accepted[before] = err == nil
		}
		if random.IntN(4) == 0 {
			w.read(random.IntN(4))
		}
	}
}

// wantAccepted fails unless each accepted message was handled once.
func (w *world) wantAccepted(seed uint64, accepted map[uint64]bool) {
	w.t.Helper()
	for serial, is := range accepted {
		if n := w.got[serial]; n > 1 || is && n != 1 {
			w.t.Fatalf("seed %d: message %d was handled %d times, accepted: %v; %s", seed, serial, n, is, w)
		}
	}
}

// TestLog_SyncsFail_LoseNothingPromised: any sync of a file or of the names fails, some in a row. Afterwards the
// disk holds the pages for clean. Lives end by a kill or by a loss of power.
func TestLog_SyncsFail_LoseNothingPromised(t *testing.T) {
	for seed := range uint64(ipctest.InSoak(1500, 150_000)) {
		random := rand.New(rand.NewPCG(seed, 21))
		w := newWorld(t, journal.Config{Sync: 0, SegmentSize: int64(200 + random.IntN(600))})
		w.ahead = seed%2 == 0
		accepted := map[uint64]bool{}
		for range 2 + random.IntN(4) {
			share := random.IntN(4)
			w.disk.Fault = func(op disktest.Op, _ string) error {
				if (op == disktest.OpSync || op == disktest.OpSyncNames) && random.IntN(8) < share {
					return errDevice
				}
				return nil
			}
			w.open()
			w.writes(random, random.IntN(12), accepted)
			w.check()
			if random.IntN(3) == 0 {
				w.log.Close()
			}
			if w.disk.Fault = nil; random.IntN(2) == 0 {
				w.disk = w.disk.Kill()
			} else {
				w.disk, w.boot = w.disk.PowerLoss(random), w.boot+1
			}
		}
		w.open()
		w.read(1000)
		w.check()
		w.wantAccepted(seed, accepted)
		w.log.Close()
	}
}

// TestAppend_NameNotSynced_LosesNothing: a segment that could not be begun may come back. What was written after it has
// its numbers, and is not taken for what it has.
func TestAppend_NameNotSynced_LosesNothing(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(t, journal.Config{Sync: 0, SegmentSize: 300})
		w.open()
		accepted := map[uint64]bool{}
		for _, count := range []int{1, 9, 1} { // The second one needs another segment.
			fails := count == 9
			w.disk.Fault = func(op disktest.Op, _ string) error {
				if fails && op == disktest.OpSyncNames {
					return errDevice
				}
				return nil
			}
			before := w.serial
			if err := w.write(count); (err != nil) != fails {
				t.Fatal(err)
			}
			for ; before < w.serial; before++ {
				accepted[before] = !fails
			}
		}
		w.disk, w.boot = w.disk.PowerLoss(rand.New(rand.NewPCG(seed, 23))), w.boot+1
		w.open()
		w.read(100)
		w.wantAccepted(seed, accepted)
		w.log.Close()
	}
}

// TestLog_CallsFail_LoseNothingPromised: any call of the disk fails, at random, and works again later.
func TestLog_CallsFail_LoseNothingPromised(t *testing.T) {
	for seed := range uint64(ipctest.InSoak(1500, 150_000)) {
		random := rand.New(rand.NewPCG(seed, 22))
		sync := []time.Duration{0, time.Hour}[seed%2]
		w := newWorld(t, journal.Config{Sync: sync, SegmentSize: int64(200 + random.IntN(600))})
		w.ahead = seed%3 == 0
		accepted := map[uint64]bool{}
		for range 2 + random.IntN(4) {
			failing := false
			w.disk.Fault = func(op disktest.Op, _ string) error {
				if failing && op != disktest.OpRead && random.IntN(10) == 0 {
					return errDevice
				}
				return nil
			}
			w.open()
			for range random.IntN(4) {
				failing = true
				for range random.IntN(4) {
					serial := w.serial
					accepted[serial] = w.write(1) == nil
				}
				failing = false
				w.writes(random, random.IntN(3), accepted)
			}
			w.check()
			if w.disk.Fault = nil; random.IntN(3) == 0 {
				w.log.Close()
			}
			w.disk = w.disk.Kill()
		}
		w.open()
		w.read(1000)
		w.check()
		w.wantAccepted(seed, accepted)
		w.log.Close()
	}
}

// TestOpen_Full_OpensAndMakesRoom: a disk on which a few bytes are left, or none. The spool opens, what is in it is
// delivered, and that makes room.
func TestOpen_Full_OpensAndMakesRoom(t *testing.T) {
	for left := range int64(200) {
		for _, orderly := range []bool{false, true} {
			w := newWorld(t, journal.Config{Sync: 0, SegmentSize: 300})
			w.open()
			accepted := map[uint64]bool{}
			w.writes(rand.New(rand.NewPCG(0, 0)), 10, accepted)
			before := w.start
			if orderly {
				w.log.Close()
			}
			w.disk = w.disk.Kill()
			w.disk.Quota = left + 20<<10
			free, err := w.disk.Free()
			if err != nil {
				t.Fatal(err)
			}
			w.disk.SetContent("ballast", make([]byte, int64(free)-left))
			w.open()
			if w.start.Writer != before.Writer || w.start.Renewed {
				t.Fatalf("%d bytes left: %+v, before it %+v", left, w.start, before)
			}
			for range 10 {
				serial := w.serial
				err := w.write(1)
				if accepted[serial] = err == nil; err != nil && !errors.Is(err, journal.ErrFull) {
					t.Fatalf("%d bytes left: %v", left, err)
				}
			}
			w.read(1000)
			if err := w.write(1); err != nil {
				t.Fatalf("%d bytes left, after all was handled: %v; %s", left, err, w)
			}
			accepted[w.serial-1] = true
			w.read(1000)
			w.check()
			w.wantAccepted(uint64(left), accepted)
			w.log.Close()
		}
	}
}

// TestOpen_NewOnFullDisk_Opens: with room for each part of the hints, and for none. Nothing is promised, and
// nothing is taken for something else.
func TestOpen_NewOnFullDisk_Opens(t *testing.T) {
	for quota := int64(1); quota < 17<<10; quota += 61 {
		w := newWorld(t, journal.Config{Sync: 0, SegmentSize: 300})
		accepted := map[uint64]bool{}
		for range 3 {
			w.disk.Quota = quota
			w.open()
			for range 8 {
				serial := w.serial
				err := w.write(1)
				full := errors.Is(err, journal.ErrFull) && errors.Is(err, disk.ErrFull)
				if accepted[serial] = err == nil; err != nil && !full {
					t.Fatalf("quota %d: %v", quota, err)
				}
			}
			w.disk = w.disk.Kill()
		}
		w.disk.Quota = 0
		w.open()
		w.read(1000)
		w.check()
		w.wantAccepted(uint64(quota), accepted)
		if _, err := w.log.Next(); err != io.EOF {
			t.Errorf("quota %d: %v", quota, err)
		}
		w.log.Close()
	}
}
