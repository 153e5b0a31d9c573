// SPDX-License-Identifier: Apache-2.0

package journal_test

// One life after the other: orderly ends, kills, and losses of power.

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/disk"
	"github.com/udsipc/udsipc/internal/disktest"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/journal"
)

func TestLog_Written_IsReadBackInOrder(t *testing.T) {
	w := newWorld(t, journal.Config{Sync: -1, SegmentSize: 500})
	w.open()
	for n := range 30 {
		if err := w.write(1 + n%4); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(w.disk.Names(".seg")); n < 5 {
		t.Errorf("%d segments, want more", n)
	}
	w.read(1000)
	w.wantAll(w.serial)
	if n := len(w.disk.Names(".seg")); n != 1 {
		t.Errorf("%q, want one segment", w.disk.Names(".seg"))
	}
	if err := w.log.Close(); err != nil {
		t.Error(err)
	}
	if err := w.write(1); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestOpen_Ends_DecideIdentity: it goes on after an orderly end and after a kill, not after a loss of power.
func TestOpen_Ends_DecideIdentity(t *testing.T) {
	for name, test := range map[string]struct {
		end     func(w *world)
		goesOn  bool
		numbers uint64
	}{
		"orderly":           {func(w *world) { w.log.Close(); w.disk = w.disk.Kill() }, true, 6},
		"orderly, rebooted": {func(w *world) { w.log.Close(); w.disk = w.disk.Kill(); w.boot++ }, true, 6},
		"killed":            {func(w *world) { w.disk = w.disk.Kill() }, true, 6},
		"rebooted":          {func(w *world) { w.disk = w.disk.Kill(); w.boot++ }, false, 1},
		"no state":          {func(w *world) { w.log.Close(); w.disk = w.disk.Kill(); w.disk.Remove("state") }, false, 1},
		"state damaged": {func(w *world) {
			w.log.Close()
			w.disk = w.disk.Kill()
			w.disk.SetContent("state", []byte("udstate1"))
		}, false, 1},
	} {
		w := newWorld(t, journal.Config{Sync: 0})
		w.open()
		before := w.start
		for range 5 {
			w.write(1)
		}
		test.end(w)
		w.open()
		if goesOn := w.start.Writer == before.Writer; goesOn != test.goesOn || w.start.Next != test.numbers ||
			w.start.Renewed == goesOn || w.start.Starts <= before.Starts || w.start.Found != 5 {
			t.Errorf("%s: %+v, before it %+v", name, w.start, before)
		}
		w.write(2)
		w.read(100)
		w.wantAll(8)
		w.log.Close()
	}
}

// TestLog_Lives_LoseNothingPromised: random lives that end in order, by a kill, or by a loss of power. With a
// sync before each return nothing is lost, ever; else nothing unless the power is.
func TestLog_Lives_LoseNothingPromised(t *testing.T) {
	for seed := range uint64(ipctest.InSoak(2000, 200_000)) {
		random := rand.New(rand.NewPCG(seed, 7))
		syncs := []time.Duration{0, time.Hour, 0, -1}
		config := journal.Config{SegmentSize: int64(200 + random.IntN(1000)), Sync: syncs[seed%4]}
		w := newWorld(t, config)
		lossy := false
		w.ahead = seed%3 == 0
		accepted := map[uint64]bool{}
		for range 2 + random.IntN(6) {
			w.open()
			for range random.IntN(12) {
				before := w.serial
				if err := w.write(1 + random.IntN(3)); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				for ; before < w.serial; before++ {
					accepted[before] = true
				}
				if random.IntN(3) == 0 {
					w.read(random.IntN(5))
				}
			}
			orderly, powerLoss := random.IntN(3) == 0, random.IntN(3) == 0
			if orderly {
				if err := w.log.Close(); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
			if !powerLoss {
				w.disk = w.disk.Kill()
				continue
			}
			w.disk, w.boot = w.disk.PowerLoss(random), w.boot+1
			lossy = lossy || config.Sync != 0 && !(orderly && config.Sync > 0)
		}
		w.open()
		w.read(1000)
		for serial := range accepted {
			if n := w.got[serial]; n > 1 || n == 0 && !lossy {
				t.Fatalf("seed %d: message %d was handled %d times; %s", seed, serial, n, w)
			}
		}
		w.log.Close()
	}
}

// TestAppend_Many_ShareWrites: all messages of many producers come, each producer's in order.
func TestAppend_Many_ShareWrites(t *testing.T) {
	w := newWorld(t, journal.Config{Sync: 0})
	w.open()
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			last := uint64(0)
			for range 50 {
				first, err := w.log.Append([]byte{1, 'a', 1, 'b'}, 2)
				if err != nil || first <= last {
					t.Errorf("number %d after %d, %v", first, last, err)
				}
				last = first + 1
			}
		})
	}
	group.Wait()
	if c := w.log.Counts(); c.Accepted != 1600 || c.Messages != 1600 {
		t.Errorf("%+v", c)
	}
	w.check()
	w.log.Close()
}

// TestSync_Failed_IsWrittenAgain: a sync that fails once, and lies about those pages afterwards.
func TestSync_Failed_IsWrittenAgain(t *testing.T) {
	for _, config := range []journal.Config{{Sync: 0, SegmentSize: 400}, {Sync: time.Hour, SegmentSize: 400}} {
		for run := range 120 {
			fails := run % 12
			w := newWorld(t, config)
			w.open()
			syncs := 0
			w.disk.Fault = func(op disktest.Op, name string) error {
				if op == disktest.OpSync && name != "state" {
					if syncs++; syncs == fails+1 {
						return errors.New("input/output error")
					}
				}
				return nil
			}
			for n := range 20 {
				if err := w.write(1); err != nil {
					t.Fatal(err)
				}
				if n%7 == 3 {
					w.read(2)
				}
			}
			if err := w.log.Sync(); err != nil {
				t.Errorf("sync %d fails: %v", fails, err)
			}
			w.check()
			w.disk = w.disk.PowerLoss(rand.New(rand.NewPCG(uint64(run), 3)))
			w.boot++
			w.open()
			w.read(1000)
			w.wantAll(21)
			w.log.Close()
		}
	}
}

// TestOpen_Found_IsSynced: what a killed process left unsynced survives a loss of power after the next start, and after
// its first sync in all segments.
func TestOpen_Found_IsSynced(t *testing.T) {
	for seed := range uint64(40) {
		w := newWorld(t, journal.Config{Sync: time.Hour, SegmentSize: []int64{0, 200}[seed%2]})
		w.open()
		for range 5 {
			w.write(1)
		}
		w.disk = w.disk.Kill()
		w.open()
		if w.config.SegmentSize > 0 {
			if err := w.log.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		w.disk, w.boot = w.disk.PowerLoss(rand.New(rand.NewPCG(seed, 5))), 2
		w.open()
		w.read(100)
		w.wantAll(6)
		w.log.Close()
	}
}

// TestAppend_Full_IsRefusedWhole: a quota at each byte of a run. What was refused is not there; the rest is.
func TestAppend_Full_IsRefusedWhole(t *testing.T) {
	for quota := int64(17 << 10); quota < 17<<10+600; quota++ {
		w := newWorld(t, journal.Config{Sync: 0, SegmentSize: 300})
		w.disk.Quota = quota
		w.open()
		promised := map[uint64]bool{}
		for range 15 {
			serial := w.serial
			err := w.write(1)
			if promised[serial] = err == nil; err != nil && !(errors.Is(err, journal.ErrFull) && errors.Is(err, disk.ErrFull)) {
				t.Fatalf("quota %d: %v", quota, err)
			}
		}
		w.check()
		w.disk = w.disk.Kill()
		w.open()
		w.read(1000)
		for serial, is := range promised {
			if (w.got[serial] == 1) != is {
				t.Fatalf("quota %d: message %d was handled %d times, accepted: %v; %s", quota, serial, w.got[serial], is, w)
			}
		}
		if err := w.write(1); err != nil {
			t.Errorf("quota %d: after all was handled: %v", quota, err)
		}
		w.log.Close()
	}
}
