// SPDX-License-Identifier: Apache-2.0

package journal_test

// Calls in any order, on disks that fail, fill up and are damaged.

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

// TestLog_AnyOrder_AddsUp: whatever is called, each message is in one count, Left never passes one that is there, and
// in the end each that can be read is returned.
func TestLog_AnyOrder_AddsUp(t *testing.T) {
	for seed := range uint64(ipctest.InSoak(1500, 300_000)) {
		random := rand.New(rand.NewPCG(seed, 77))
		now := time.Unix(100_000, 0)
		w := newWorld(t, journal.Config{Sync: []time.Duration{0, time.Hour, -1}[random.IntN(3)],
			SegmentSize: int64(60 + random.IntN(800)), MaxBytes: int64(random.IntN(2) * (400 + random.IntN(2000))),
			DropOldest: random.IntN(2) == 0, MaxAge: time.Duration(random.IntN(2)) * time.Minute,
			Now: func() time.Time { return now }})
		w.disk.Now, w.repeats = w.config.Now, true
		for range 2 + random.IntN(5) {
			calls, share, reads := random.IntN(500), random.IntN(3), random.IntN(3) == 0
			w.disk.Fault = func(op disktest.Op, _ string) error {
				if calls--; calls < 0 {
					return disktest.ErrDead
				}
				if (op != disktest.OpRead || reads) && random.IntN(25) < share {
					return errDevice
				}
				return nil
			}
			for w.tryOpen() != nil && calls >= 0 {
			}
			for steps := random.IntN(30); steps > 0 && calls >= 0; steps-- {
				now = now.Add(time.Duration(random.IntN(30)-5) * time.Second)
				w.callAny(random)
				w.check()
			}
			if calls >= 0 && random.IntN(3) == 0 {
				w.log.Close()
				w.check()
			}
			w.endAndDamage(random)
		}
		if err := w.tryOpen(); err == nil {
			w.drain(seed)
		} else if !errors.Is(err, disk.ErrUnsafe) { // A hint that was damaged twice looks like a file of another program.
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// callAny calls something.
func (w *world) callAny(random *rand.Rand) {
	writer, next := w.log.Identity()
	switch n := random.IntN(108); {
	case n < 48:
		w.write(1 + random.IntN(4))
	case n < 60:
		if b, err := w.log.Next(); err == nil {
			w.log.Welcomed(b.Writer, b.First-1)
		}
	case n < 72:
		if b, err := w.log.Next(); err == nil && b.Count > 0 {
			w.log.Handled(b.Writer, b.First+uint64(random.IntN(b.Count)), uint64(random.IntN(2)))
		}
	case n < 84:
		w.log.Rewind()
	case n < 96:
		w.log.Sync()
	case n < 106:
		w.log.Expire()
	case n < 107:
		w.log.GiveUp(writer, uint64(random.IntN(int(next))))
		w.log.Rewind()
	default:
		w.log.Welcomed(writer, next+uint64(random.IntN(3)))
		w.log.Rewind()
	}
}

// endAndDamage ends a life, and perhaps damages a file.
func (w *world) endAndDamage(random *rand.Rand) {
	if w.disk.Fault = nil; random.IntN(2) == 0 {
		w.disk = w.disk.Kill()
	} else {
		w.disk, w.boot = w.disk.PowerLoss(random), w.boot+1
	}
	names := w.disk.Names("")
	if len(names) == 0 || random.IntN(3) > 0 {
		return
	}
	name := names[random.IntN(len(names))]
	b, _ := w.disk.Content(name)
	if len(b) == 0 {
		return
	}
	switch at := random.IntN(len(b)); random.IntN(3) {
	case 0:
		b[at] ^= 1 << random.IntN(8)
	case 1:
		b = b[:at]
	case 2:
		clear(b[at:])
	}
	w.disk.SetContent(name, b)
}

// drain returns all messages, and handles each batch.
func (w *world) drain(seed uint64) {
	w.t.Helper()
	for calls := 0; ; calls++ {
		b, err := w.log.Next()
		if err == io.EOF {
			break
		}
		if err != nil || calls > 10_000 {
			w.t.Fatalf("seed %d: %v after %d calls; %s", seed, err, calls, w)
		}
		if b.Count == 0 || !w.met[b.Writer] {
			w.met[b.Writer] = true
			if renewed, err := w.log.Welcomed(b.Writer, 0); renewed || err != nil {
				w.t.Fatalf("seed %d: given up: %v, %v; %s", seed, renewed, err, w)
			}
			w.log.Rewind()
		} else if err := w.log.Handled(b.Writer, b.First+uint64(b.Count)-1, 0); err != nil {
			w.t.Fatalf("seed %d: %v", seed, err)
		}
		w.check()
	}
	if c := w.log.Counts(); c.Messages > 0 || w.log.Left() != w.log.End() {
		w.t.Fatalf("seed %d: %d messages were not returned; %s", seed, c.Messages, w)
	}
	if err := w.log.Close(); err != nil || w.disk.OpenFiles() > 0 {
		w.t.Fatalf("seed %d: %v, %d files are open", seed, err, w.disk.OpenFiles())
	}
}
