// SPDX-License-Identifier: Apache-2.0

package journal_test

// Disks that fail, and lives that end, while an identity is given up.

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/udsipc/udsipc/internal/disk"
	"github.com/udsipc/udsipc/internal/disktest"
	"github.com/udsipc/udsipc/internal/journal"
	"github.com/udsipc/udsipc/internal/segment"
)

// restored returns a world with messages 1 to 10, of which the reader knows all, and 21 to 29, which it does not know
// but whose numbers it does. A life has begun, and has written two of them.
func restored(t *testing.T) (w *world, writer segment.WriterID) {
	t.Helper()
	w = newWorld(t, journal.Config{SegmentSize: 250})
	w.life(10, 5)
	backup := w.disk.Copy()
	w.life(10, 12)
	w.restore(backup)
	w.life(7, 0)
	w.open()
	w.writeEach(2)
	writer, _ = w.log.Identity()
	return w, writer
}

// wantRestored fails unless nothing is lost, and if times is 1, nothing comes twice.
func (w *world) wantRestored(name string, times int) {
	w.t.Helper()
	for serial := uint64(21); serial < w.serial; serial++ {
		if n := w.got[serial]; n < 1 || n > times {
			w.t.Fatalf("%s: message %d was handled %d times; %s", name, serial, n, w)
		}
	}
}

// TestWelcomed_EachCallFails_TriesAgain: a call of the disk fails, the next attempt works. Append goes on before
// it, and after it.
func TestWelcomed_EachCallFails_TriesAgain(t *testing.T) {
	for _, failure := range []error{errDevice, fmt.Errorf("writing: %w", disk.ErrFull)} {
		failed := true
		for at := 0; failed; at++ {
			name := fmt.Sprintf("call %d fails: %v", at, failure)
			w, writer := restored(t)
			calls, what := 0, disktest.Op("")
			failed = false
			w.disk.Fault = func(op disktest.Op, _ string) error {
				if calls++; calls == at+1 && op != disktest.OpRead { // What cannot be read is damaged.
					failed, what = true, op
					return failure
				}
				failed = failed || calls == at+1
				return nil
			}
			renewed, err := w.log.Welcomed(writer, w.handled[writer])
			w.disk.Fault = nil
			w.check()
			harmless := what == "" || what == disktest.OpRemove || what == disktest.OpList || renewed
			if err == nil && !harmless || err != nil && renewed || err != nil && !errors.Is(err, failure) ||
				errors.Is(failure, disk.ErrFull) && err != nil && !errors.Is(err, journal.ErrFull) {
				t.Fatalf("%s: %s: %v, %v", name, what, renewed, err)
			}
			w.writeEach(1)
			w.read(1000)
			w.wantRestored(name, 1)
			if c := w.log.Counts(); c.Renewed != 1 || c.Messages != 0 {
				t.Fatalf("%s: %s", name, w)
			}
			w.disk = w.disk.Kill()
			times := 1
			if what == disktest.OpRemove {
				times, w.loose = 2, true // The old files are still there.
			}
			w.open()
			w.read(1000)
			w.wantRestored(name, times)
			w.log.Close()
		}
	}
}

// TestWelcomed_EachCallIsTheLast_LosesNothing: the process or the machine ends while an identity is given up.
func TestWelcomed_EachCallIsTheLast_LosesNothing(t *testing.T) {
	ended := true
	repeated := 0
	for at := 0; ended; at++ {
		for seed := range uint64(12) {
			w, writer := restored(t)
			calls := 0
			w.disk.Fault = func(disktest.Op, string) error {
				if calls++; calls > at {
					return disktest.ErrDead
				}
				return nil
			}
			w.log.Welcomed(writer, w.handled[writer])
			ended = calls > at
			if seed == 0 {
				w.disk = w.disk.Kill()
			} else {
				w.disk, w.boot = w.disk.PowerLoss(rand.New(rand.NewPCG(seed, uint64(at)))), w.boot+1
			}
			w.disk.Fault, w.loose = nil, true
			w.open()
			w.writeEach(1)
			w.read(1000)
			w.check()
			w.wantRestored(fmt.Sprintf("call %d, seed %d", at, seed), 2)
			for _, n := range w.got {
				repeated += n - 1
			}
			w.log.Close()
		}
	}
	if repeated == 0 {
		t.Error("no message was handled twice: the comment of Welcomed promises too little")
	}
}
