// SPDX-License-Identifier: Apache-2.0

package journal_test

// What the reader knows, against what is on the disk: older copies of a spool.

import (
	"slices"
	"testing"

	"github.com/udsipc/udsipc/internal/disktest"
	"github.com/udsipc/udsipc/internal/journal"
)

// life is a life that appends messages, hands some of them to the reader, and is killed.
func (w *world) life(write, read int) {
	w.t.Helper()
	w.open()
	w.writeEach(write)
	w.readMessages(1000, read)
	w.disk = w.disk.Kill()
}

// writeEach appends messages one by one.
func (w *world) writeEach(count int) {
	w.t.Helper()
	for range count {
		if err := w.write(1); err != nil {
			w.t.Fatal(err)
		}
	}
}

// restore replaces the disk by a backup. What was written since then and not handled is lost for good.
func (w *world) restore(backup *disktest.Disk) { w.disk, w.last = backup.Copy(), 0 }

// TestWelcomed_RestoredBackup_LosesNothingNew: the backup has messages 1 to 10, of which 4 were handled. Then
// 11 to 30 are written, and some are handled. Then the backup is restored.
func TestWelcomed_RestoredBackup_LosesNothingNew(t *testing.T) {
	for name, test := range map[string]struct {
		after   func(w *world) // What happens after the backup.
		then    func(w *world) // What happens after it was restored, before a reader is met.
		want    []uint64       // The messages that are handled, besides 1 to 4.
		renewed uint64
	}{
		"nothing happened since": {
			func(w *world) {}, func(w *world) {}, serials(5, 10), 0},
		"the reader knows some of the backup": {
			func(w *world) { w.life(20, 3) }, func(w *world) {}, serials(5, 10), 0},
		"the reader knows all of the backup": {
			func(w *world) { w.life(20, 6) }, func(w *world) {}, serials(5, 10), 0},
		"the reader knows the next one": {
			func(w *world) { w.life(20, 7) }, func(w *world) {}, serials(5, 11), 1},
		"the reader knows more": {
			func(w *world) { w.life(20, 20) }, func(w *world) {}, serials(5, 24), 1},
		"new messages wait": {
			func(w *world) { w.life(20, 20) }, func(w *world) { w.life(7, 0) },
			slices.Concat(serials(5, 24), serials(31, 37)), 1},
		"fewer than the reader knows, over several starts": {
			func(w *world) { w.life(20, 20) }, func(w *world) { w.life(2, 0); w.life(0, 0); w.life(3, 0) },
			slices.Concat(serials(5, 24), serials(31, 35)), 1},
		"more than the reader knows": {
			func(w *world) { w.life(20, 8) }, func(w *world) { w.life(30, 0); w.life(1, 0) },
			slices.Concat(serials(5, 12), serials(31, 61)), 1},
		"the power is lost before a reader is met": {
			func(w *world) { w.life(20, 20) }, func(w *world) { w.life(7, 0); w.boot++; w.life(3, 0) },
			slices.Concat(serials(5, 24), serials(31, 40)), 1},
		"the identity was a new one already": {
			func(w *world) { w.boot++; w.life(20, 20) }, func(w *world) { w.life(7, 0) },
			slices.Concat(serials(5, 24), serials(31, 37)), 0},
		"without its state": {
			func(w *world) { w.life(20, 20) }, func(w *world) { w.disk.Remove("state"); w.life(7, 0) },
			slices.Concat(serials(5, 24), serials(31, 37)), 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, journal.Config{Sync: 0, SegmentSize: 250})
			w.life(10, 4)
			backup := w.disk.Copy()
			test.after(w)
			w.restore(backup)
			test.then(w)
			w.open()
			w.read(1) // A new message comes in the middle.
			before := w.serial
			w.writeEach(1)
			w.read(1000)
			writer, _ := w.log.Identity()
			if w.welcome(writer) {
				w.read(1000)
			}
			if got, want := w.serials(), slices.Concat(serials(1, 4), test.want, []uint64{before}); !slices.Equal(got, want) {
				t.Errorf("handled %v, want %v; %s", got, want, w)
			}
			if c := w.log.Counts(); c.Renewed != test.renewed || c.Messages != 0 || len(w.damage) != 0 {
				t.Errorf("%d renewed, want %d; %s", c.Renewed, test.renewed, w)
			}
			w.disk = w.disk.Kill() // The new identity stays.
			w.life(2, 100)
			if got := w.serials(); !slices.Equal(got[len(got)-2:], serials(before+1, before+2)) {
				t.Errorf("handled %v at the end", got)
			}
		})
	}
}

// serials returns the numbers from a first to a last one.
func serials(first, last uint64) (all []uint64) {
	for n := first; n <= last; n++ {
		all = append(all, n)
	}
	return all
}

// TestWelcomed_CopiedFolder_LosesNothing: a copy of the files is opened beside them, and both are delivered to the
// same reader, one after the other.
func TestWelcomed_CopiedFolder_LosesNothing(t *testing.T) {
	for name, run := range map[string]func(one, other *world){
		"one after the other": func(one, other *world) { one.read(1000); other.read(1000) },
		"the copy first":      func(one, other *world) { other.read(1000); one.read(1000) },
		"the other one begins when one is killed": func(one, other *world) {
			one.readMessages(1000, 8)
			one.disk = one.disk.Kill()
			other.read(1000)
			one.open()
			one.read(1000)
		},
		"both are killed before they meet a reader": func(one, other *world) {
			one.disk, other.disk = one.disk.Kill(), other.disk.Kill()
			one.open()
			one.read(1000)
			other.open()
			other.read(1000)
		},
	} {
		t.Run(name, func(t *testing.T) {
			one := newWorld(t, journal.Config{SegmentSize: 250})
			one.life(10, 4)
			one.loose = true
			copied := *one // The maps are those of the reader.
			other := &copied
			other.disk, other.serial = one.disk.Copy(), 101
			for range 2 {
				one.open()
				other.open()
				one.writeEach(5)
				other.writeEach(6)
				run(one, other)
				one.log.Close()
				other.log.Close()
				one.disk, other.disk = one.disk.Kill(), other.disk.Kill()
			}
			if got, want := one.serials(), slices.Concat(serials(1, 20), serials(101, 112)); !slices.Equal(got, want) {
				t.Errorf("handled %v, want %v", got, want)
			}
		})
	}
}
