// SPDX-License-Identifier: Apache-2.0

package journal_test

// Files that are damaged between two lives.

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/journal"
	"github.com/udsipc/udsipc/internal/segment"
)

// left returns a world with a life that has ended by a kill: ten messages in ten batches of a few segments.
func left(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, journal.Config{Sync: 0, SegmentSize: 220})
	w.open()
	for range 10 {
		if err := w.write(1); err != nil {
			t.Fatal(err)
		}
	}
	w.disk = w.disk.Kill()
	return w
}

// A remains is what a life has left, and can be damaged many times. Its messages have their serial numbers.
type remains struct {
	world   *world
	files   map[string][]byte
	newest  string
	batches map[string][]segment.Batch // By the name of the segment.
}

// leave lets a life write batches of one to three messages, which end is the end of.
func leave(t *testing.T, handled int, end func(w *world)) remains {
	t.Helper()
	w := newWorld(t, journal.Config{Sync: 0, SegmentSize: 400})
	w.open()
	for n := range 14 {
		if err := w.write(1 + n%3); err != nil {
			t.Fatal(err)
		}
	}
	w.read(handled)
	end(w)
	w.disk = w.disk.Kill() // Nobody has the log any more.
	r := remains{w, map[string][]byte{}, "", map[string][]segment.Batch{}}
	for _, name := range w.disk.Names("") {
		r.files[name], _ = w.disk.Content(name)
	}
	for _, name := range w.disk.Names(".seg") {
		r.newest = name
		reader := segment.NewReader(bytes.NewReader(r.files[name]), w.start.Writer)
		offset, size := int64(segment.HeaderSize), int64(len(r.files[name]))
		for offset < size {
			b, err := reader.ReadBatch(offset, size)
			if err != nil {
				t.Fatal(err)
			}
			r.batches[name] = append(r.batches[name], b)
			offset = b.End
		}
	}
	return r
}

// with returns a world whose next life finds one file changed.
func (r remains) with(t *testing.T, changed string, content []byte) *world {
	w := newWorld(t, r.world.config)
	w.config.OnDamage = func(d journal.Damage) { w.damage = append(w.damage, d) }
	w.ids, w.serial, w.last = r.world.ids, r.world.serial, r.world.last
	w.known, w.handled, w.got = maps.Clone(r.world.known), maps.Clone(r.world.handled), maps.Clone(r.world.got)
	w.disk = r.world.disk.Copy()
	w.disk.SetContent(changed, content)
	return w
}

// ends has how a life ends, each with messages that the reader has handled and without.
var ends = map[string]struct {
	batches int
	end     func(w *world)
	orderly bool
}{
	"killed":             {0, func(w *world) { w.disk = w.disk.Kill() }, false},
	"killed, in part":    {3, func(w *world) { w.disk = w.disk.Kill() }, false},
	"closed":             {0, func(w *world) { w.log.Close(); w.disk = w.disk.Kill() }, true},
	"closed, in part":    {3, func(w *world) { w.log.Close(); w.disk = w.disk.Kill() }, true},
	"closed, and nearly": {12, func(w *world) { w.log.Close(); w.disk = w.disk.Kill() }, true},
}

// serials returns which messages were handled.
func (w *world) serials() (all []uint64) {
	for serial, n := range w.got {
		if n != 1 {
			w.t.Errorf("message %d was handled %d times", serial, n)
		}
		all = append(all, serial)
	}
	slices.Sort(all)
	return all
}

// TestOpen_TornTail_IsCutOff: the newest segment is cut, zeroed, or filled with garbage from each byte on. Exactly the
// whole batches before that are found, and writing and opening go on.
func TestOpen_TornTail_IsCutOff(t *testing.T) {
	r := leave(t, 0, func(w *world) { w.disk = w.disk.Kill() })
	content, random := r.files[r.newest], rand.New(rand.NewPCG(1, 2))
	for at := range content {
		zeroed, garbage := bytes.Clone(content), bytes.Clone(content)
		clear(zeroed[at:])
		for i := at; i < len(content); i++ {
			garbage[i] = byte(random.Uint32())
		}
		garbage[at] = content[at] + 1
		for name, damaged := range map[string][]byte{"cut": content[:at], "zeroed": zeroed, "garbage": garbage} {
			found := r.batches[r.newest][0].First - 1 // Of each batch that was not changed.
			for _, b := range r.batches[r.newest] {
				if b.End <= int64(len(damaged)) && bytes.Equal(damaged[b.Start:b.End], content[b.Start:b.End]) &&
					(name == "zeroed" || b.End <= int64(at)) {
					found = b.Next() - 1
				}
			}
			w := r.with(t, r.newest, damaged)
			w.open()
			if at >= segment.HeaderSize && w.start.Found != found {
				t.Fatalf("%s at %d: found %d, want %d; %s", name, at, w.start.Found, found, w)
			}
			found = w.start.Found
			for range 2 { // Twice: what is appended is behind nothing that is torn.
				if err := w.write(1); err != nil {
					t.Fatalf("%s at %d: %v", name, at, err)
				}
				w.disk = w.disk.Kill()
				w.open()
			}
			w.read(100)
			got := w.serials()
			if n := len(got); uint64(n) != found+2 || got[n-3] != found || got[n-2] != r.world.serial {
				t.Fatalf("%s at %d: handled %v, found %d; %s", name, at, got, found, w)
			}
			if name == "cut" && at >= segment.HeaderSize && len(w.damage) > 0 {
				t.Fatalf("cut at %d: a torn tail is no damage; %s", at, w)
			}
			w.check()
			w.log.Close()
		}
	}
}

// TestNext_EachBit_LosesItsBatch: of any segment, after each end. Exactly the numbers of its batch are missing and
// reported, and the file is kept.
func TestNext_EachBit_LosesItsBatch(t *testing.T) {
	for name, end := range ends {
		r := leave(t, end.batches, end.end)
		for segmentName, batches := range r.batches {
			content := r.files[segmentName]
			for at := range content {
				for bit := range ipctest.InSoak(2, 8) {
					damaged := bytes.Clone(content)
					damaged[at] ^= 1 << ((at + bit*3) % 8)
					w := r.with(t, segmentName, damaged)
					hit := slices.IndexFunc(batches, func(b segment.Batch) bool { return b.Start <= int64(at) && int64(at) < b.End })
					var want []uint64
					if hit >= 0 {
						for n := max(batches[hit].First, w.handled[r.world.start.Writer]+1); n < batches[hit].Next(); n++ {
							want = append(want, n)
						}
					}
					// The numbers of the last batch of a process that was killed are known to nobody.
					known := end.orderly || segmentName != r.newest || hit != len(batches)-1
					w.wantMissing(fmt.Sprintf("%s, byte %d of %s", name, at, segmentName), want, known)
					if c := w.log.Counts(); known && (end.orderly || end.batches == 0) && c.Damaged != uint64(len(want)) {
						t.Fatalf("%s, byte %d of %s: counted %d, want %d", name, at, segmentName, c.Damaged, len(want))
					}
					if !slices.Contains(w.disk.Names(".bad"), segmentName+".bad") && (known && len(want) > 0 || len(w.damage) > 0) {
						t.Fatalf("%s, byte %d of %s: the file is not kept; %s", name, at, segmentName, w)
					}
				}
			}
		}
	}
}

// wantMissing opens a damaged log, and fails unless exactly these messages are missing, and reported if they are known.
func (w *world) wantMissing(what string, want []uint64, known bool) {
	w.t.Helper()
	w.open()
	w.write(2)
	w.read(100)
	w.check()
	var missing, reported []uint64
	for serial := uint64(1); serial < w.serial; serial++ {
		if w.got[serial] != 1 {
			missing = append(missing, serial)
		}
	}
	for _, d := range w.damage {
		for n := d.From; n < d.To; n++ {
			if d.Writer == (segment.WriterID{2, 0xff}) && !slices.Contains(reported, n) && w.got[n] == 0 {
				reported = append(reported, n)
			}
		}
	}
	slices.Sort(reported)
	if !slices.Equal(missing, want) || known && !slices.Equal(reported, want) {
		w.t.Fatalf("%s: missing %v, reported %v, want %v; %s", what, missing, reported, want, w)
	}
	w.log.Close()
}

// TestOpen_Hints_AreNotNeeded: either is missing, cut, or of an older time.
func TestOpen_Hints_AreNotNeeded(t *testing.T) {
	for _, name := range []string{"state", "handled"} {
		for _, content := range [][]byte{nil, {}, make([]byte, 100), make([]byte, 8192), bytes.Repeat([]byte{0xff}, 9000)} {
			w := left(t)
			if content == nil {
				w.disk.Remove(name)
			} else {
				w.disk.SetContent(name, content)
			}
			w.open()
			w.write(1)
			w.read(100)
			w.wantAll(12)
			w.log.Close()
		}
	}
}
