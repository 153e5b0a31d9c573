// SPDX-License-Identifier: Apache-2.0

package journal_test

// Lives that end while the spool opens, disks that lie, and many goroutines at once.

import (
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/disktest"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/journal"
	"github.com/udsipc/udsipc/internal/segment"
)

// TestOpen_PowerLossDuringRecovery_LosesNothing: each life ends after a random number of calls of the disk,
// during the opening, a write or a removal.
func TestOpen_PowerLossDuringRecovery_LosesNothing(t *testing.T) {
	for seed := range uint64(ipctest.InSoak(1000, 100_000)) {
		random := rand.New(rand.NewPCG(seed, 9))
		w := newWorld(t, journal.Config{Sync: 0, SegmentSize: int64(200 + random.IntN(600))})
		promised := map[uint64]bool{}
		for range 6 {
			calls := random.IntN(60)
			w.disk.Fault = func(disktest.Op, string) error {
				if calls--; calls < 0 {
					return disktest.ErrDead
				}
				return nil
			}
			if w.tryOpen() == nil {
				for {
					serial := w.serial
					if err := w.write(1); err != nil {
						break
					}
					promised[serial] = true
					if calls > 10 && random.IntN(4) == 0 {
						w.read(1)
					}
				}
			}
			if w.disk.Fault = nil; random.IntN(2) == 0 {
				w.disk = w.disk.Kill()
			} else {
				w.disk, w.boot = w.disk.PowerLoss(random), w.boot+1
			}
		}
		w.open()
		w.read(1000)
		for serial := range promised {
			if w.got[serial] != 1 {
				t.Fatalf("seed %d: message %d was handled %d times; %s", seed, serial, w.got[serial], w)
			}
		}
		w.log.Close()
	}
}

// TestOpen_DiskLies_StillOpens: messages may be lost, but what comes is what was written.
func TestOpen_DiskLies_StillOpens(t *testing.T) {
	for seed := range uint64(ipctest.InSoak(500, 50_000)) {
		random := rand.New(rand.NewPCG(seed, 11))
		w := newWorld(t, journal.Config{Sync: 0, SegmentSize: int64(200 + random.IntN(600))})
		for range 5 {
			w.disk.Lies = true
			w.open()
			for range random.IntN(10) {
				if err := w.write(1 + random.IntN(3)); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
			w.check()
			w.disk, w.boot = w.disk.PowerLoss(random), w.boot+1
		}
		w.open()
		w.read(1000)
		w.log.Close()
	}
}

// TestLog_ManyGoroutines_AreSafe: producers, a reader, syncs by the timer, by a caller and before each return.
func TestLog_ManyGoroutines_AreSafe(t *testing.T) {
	for _, sync := range []time.Duration{time.Millisecond, 0, -1} {
		t.Run(sync.String(), func(t *testing.T) { writeAndRead(t, sync) })
	}
}

func writeAndRead(t *testing.T, interval time.Duration) {
	t.Helper()
	d := disktest.New()
	log, start, err := journal.Open(d, journal.Config{Sync: interval, SegmentSize: 4096,
		NewWriter: func() segment.WriterID { return segment.WriterID{1} },
		OnDamage:  func(d journal.Damage) { t.Errorf("damage: %+v", d) }})
	if err != nil {
		t.Fatal(err)
	}
	const producers, each = 8, 2000
	var group sync.WaitGroup
	for range producers {
		group.Go(func() {
			for range each {
				if _, err := log.Append([]byte{2, 'a', 'b'}, 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Go(func() {
		for range 100 {
			if err := log.Sync(); err != nil {
				t.Error(err)
			}
			log.Counts()
		}
	})
	next := uint64(1)
	for next <= producers*each {
		b, err := log.Next()
		if errors.Is(err, io.EOF) {
			<-log.Arrived()
			continue
		}
		if err != nil || b.First != next || b.Writer != start.Writer {
			t.Fatalf("%+v, %v; want message %d", b, err, next)
		}
		next += uint64(b.Count)
		if err := log.Handled(b.Writer, next-1, 0); err != nil {
			t.Fatal(err)
		}
	}
	group.Wait()
	if c := log.Counts(); c.Sent != producers*each || c.Messages != 0 || c.Segments != 1 {
		t.Errorf("%+v", c)
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}
