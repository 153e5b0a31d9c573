// SPDX-License-Identifier: Apache-2.0

package journal_test

// All faults at once.

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/disktest"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/journal"
)

// TestLog_AllFaults_LoseNothingPromised: calls fail, the disk gets full, and a life ends at any call of the disk, in a
// repair or an opening too. With a sync before each return nothing is lost; else only by a loss of power. If the state
// cannot be written several times, and an older one comes back with the power, messages may come again.
func TestLog_AllFaults_LoseNothingPromised(t *testing.T) {
	seeds, repeated := ipctest.InSoak(2000, 100_000), 0
	for seed := range uint64(seeds) {
		random := rand.New(rand.NewPCG(seed, 31))
		syncs := []time.Duration{0, 0, time.Hour, -1}
		w := newWorld(t, journal.Config{Sync: syncs[seed%4], SegmentSize: int64(200 + random.IntN(800))})
		accepted := map[uint64]bool{}
		lossy := false
		w.repeats, w.ahead = true, seed%3 == 0
		for range 2 + random.IntN(6) {
			w.liveWithFaults(random, accepted)
			if w.disk.Fault = nil; random.IntN(2) == 0 {
				w.disk = w.disk.Kill()
			} else {
				w.disk, w.boot = w.disk.PowerLoss(random), w.boot+1
				lossy = lossy || w.config.Sync != 0
			}
		}
		w.disk.Quota = 0
		w.open()
		w.read(1000)
		w.check()
		for serial, is := range accepted {
			if n := w.got[serial]; n > 1 && w.repeated == 0 || is && n == 0 && !lossy {
				t.Fatalf("seed %d: message %d was handled %d times; %s", seed, serial, n, w)
			}
		}
		w.log.Close()
		repeated += min(w.repeated, 1)
	}
	if repeated > seeds/5000 {
		t.Errorf("in %d of %d lives messages came again", repeated, seeds)
	}
}

// liveWithFaults opens a log, writes and reads, and perhaps closes it, until the disk is gone.
func (w *world) liveWithFaults(random *rand.Rand, accepted map[uint64]bool) {
	w.t.Helper()
	calls, share := random.IntN(300), random.IntN(4)
	onlySyncs := random.IntN(2) == 0
	w.disk.Quota = int64(random.IntN(3) * (16<<10 + random.IntN(2000)))
	w.disk.Fault = func(op disktest.Op, _ string) error {
		if calls--; calls < 0 {
			return disktest.ErrDead
		}
		syncs := op == disktest.OpSync || op == disktest.OpSyncNames
		if op != disktest.OpRead && (syncs || !onlySyncs) && random.IntN(12) < share {
			return errDevice
		}
		return nil
	}
	for w.tryOpen() != nil {
		if calls < 0 {
			return
		}
	}
	for range random.IntN(14) {
		before := w.serial
		err := w.write(1 + random.IntN(3))
		for ; before < w.serial; before++ {
			accepted[before] = err == nil
		}
		if calls > 20 && random.IntN(3) == 0 {
			w.readSome(random.IntN(4))
		}
		w.check()
	}
	if random.IntN(3) == 0 {
		w.log.Close()
	}
}

// readSome is read on a disk that fails.
func (w *world) readSome(batches int) {
	fault := w.disk.Fault
	w.disk.Fault = nil
	w.read(batches)
	w.disk.Fault = fault
}
