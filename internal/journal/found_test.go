// SPDX-License-Identifier: Apache-2.0

package journal_test

// Whole segments that cannot be read, and what is left of writes that were cut off.

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/journal"
)

// TestOpen_SegmentUnreadable_IsReported: any one is cut to nothing, to less than a header, or zeroed. Each message
// of it is reported as missing, but for those of the last one of a process that was killed: nobody knows of them, and
// their numbers are not used again.
func TestOpen_SegmentUnreadable_IsReported(t *testing.T) {
	for _, orderly := range []bool{false, true} {
		r := leave(t, 0, func(w *world) {
			if orderly {
				w.log.Close()
			}
			w.disk = w.disk.Kill()
		})
		for name, batches := range r.batches {
			for what, content := range map[string][]byte{"empty": nil, "cut": r.files[name][:20],
				"zeroed": make([]byte, len(r.files[name]))} {
				var want []uint64
				for _, b := range batches {
					for n := range uint64(b.Count) {
						want = append(want, b.First+n)
					}
				}
				w := r.with(t, name, content)
				text := fmt.Sprintf("%s %s, orderly end: %v", name, what, orderly)
				if known := orderly || name != r.newest; known {
					w.wantMissing(text, want, true)
					if c := w.log.Counts(); c.Damaged != uint64(len(want)) {
						t.Errorf("%s: %d are counted", text, c.Damaged)
					}
				} else if w.open(); what == "zeroed" && !w.start.Renewed {
					t.Errorf("%s: numbers of %+v may be used", text, w.start)
				}
			}
		}
	}
}

// TestOpen_OnlySegmentUnreadable_IsReported after an orderly end, which tells what was in it.
func TestOpen_OnlySegmentUnreadable_IsReported(t *testing.T) {
	w := newWorld(t, journal.Config{Sync: 0})
	w.open()
	w.write(3)
	w.write(2)
	w.log.Close()
	w.disk = w.disk.Kill()
	name := w.disk.Names(".seg")[0]
	w.disk = w.disk.Copy()
	w.disk.SetContent(name, nil)
	w.wantMissing(name, []uint64{1, 2, 3, 4, 5}, true)
}

// TestOpen_HeaderDamaged_LosesNothing: of any segment, where each life has an identity of its own.
func TestOpen_HeaderDamaged_LosesNothing(t *testing.T) {
	for damaged := range 4 {
		w := newWorld(t, journal.Config{Sync: 0, SegmentSize: 400})
		for range 4 {
			w.open()
			w.write(1)
			w.write(2)
			w.disk, w.boot = w.disk.PowerLoss(rand.New(rand.NewPCG(1, 1))), w.boot+1
		}
		name := w.disk.Names(".seg")[damaged]
		b, _ := w.disk.Content(name)
		if b[10]++; damaged == 3 {
			b[11], b[12] = 0xff, 0xff // The state tells whose it is.
		}
		w.disk.SetContent(name, b)
		w.open()
		w.read(100)
		w.wantAll(13)
		w.log.Close()
	}
}

// TestNext_TornTailOfOlderSegment_IsNoDamage: several starts since then have found no reader.
func TestNext_TornTailOfOlderSegment_IsNoDamage(t *testing.T) {
	r := leave(t, 0, func(w *world) { w.disk = w.disk.Kill() })
	last := r.batches[r.newest][len(r.batches[r.newest])-1]
	for at := last.Start + 1; at < last.End; at++ {
		w := r.with(t, r.newest, r.files[r.newest][:at])
		for range 3 {
			w.open()
			w.write(1)
			w.disk = w.disk.Kill()
		}
		w.open()
		w.welcome(w.start.Writer)
		batches, last := 0, uint64(0)
		for b, err := w.log.Next(); err == nil; b, err = w.log.Next() {
			batches, last = batches+1, b.First+uint64(b.Count)-1
		}
		if len(w.damage) > 0 || last+1 != w.start.Next || w.log.Handled(w.start.Writer, last, 0) != nil {
			t.Fatalf("cut at %d: %d batches, up to message %d; %s", at, batches, last, w)
		}
		if bad := w.disk.Names(".bad"); len(bad) > 0 {
			t.Fatalf("cut at %d: %q are kept", at, bad)
		}
		w.log.Close()
	}
}

// TestOpen_HintDamaged_Opens: there are no segments, and nothing in the one file tells what it is. The other one does.
func TestOpen_HintDamaged_Opens(t *testing.T) {
	for _, name := range []string{"state", "handled"} {
		w := newWorld(t, journal.Config{Sync: time.Hour})
		w.open()
		w.write(1)
		w.read(10)
		w.log.Close()
		w.disk = w.disk.Kill()
		w.disk.Remove(w.disk.Names(".seg")[0])
		w.disk.SetContent(name, append(make([]byte, 1500), "garbage"...))
		w.open()
		w.write(1)
		w.read(10)
		w.wantAll(3)
		w.log.Close()
	}
}
