// SPDX-License-Identifier: Apache-2.0

package journal_test

// Files that are damaged between two lives.

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/udsipc/udsipc/internal/journal"
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

// TestOpen_TornTail_IsCutOff: the newest segment is cut, zeroed, or filled with garbage from each byte on. A prefix
// of whole batches is found, and writing and opening go on.
func TestOpen_TornTail_IsCutOff(t *testing.T) {
	names := left(t).disk.Names(".seg")
	newest := names[len(names)-1]
	content, _ := left(t).disk.Content(newest)
	for at := range content {
		zeroed, garbage := bytes.Clone(content), bytes.Clone(content)
		clear(zeroed[at:])
		for i := at; i < len(content); i++ {
			garbage[i] ^= byte(i) | 1
		}
		for name, damaged := range map[string][]byte{"cut": content[:at], "zeroed": zeroed, "garbage": garbage} {
			w := left(t)
			w.disk.SetContent(newest, damaged)
			w.open()
			found := w.start.Found
			if err := w.write(2); err != nil {
				t.Fatalf("%s at %d: %v", name, at, err)
			}
			w.disk = w.disk.Kill()
			w.open()
			w.read(100)
			got := w.serials()
			if n := len(got); uint64(n) != found+2 || got[n-1] != 12 || got[n-3] != found {
				t.Fatalf("%s at %d: handled %v, found %d; %s", name, at, got, found, w)
			}
			w.check()
			w.log.Close()
		}
	}
}

// TestNext_EachBit_LosesItsBatch: of any segment. Exactly its numbers are reported, and the file is kept.
func TestNext_EachBit_LosesItsBatch(t *testing.T) {
	for _, name := range left(t).disk.Names(".seg") {
		content, _ := left(t).disk.Content(name)
		for at := range content {
			w := left(t)
			damaged := bytes.Clone(content)
			damaged[at] ^= 1 << (at % 8)
			w.disk.SetContent(name, damaged)
			w.open()
			w.write(2)
			w.read(100)
			w.check()
			got, c := w.serials(), w.log.Counts()
			header := at < 48
			if lost := 12 - len(got); header && lost != 0 || !header && lost != 1 {
				t.Fatalf("byte %d of %s: handled %v; %s", at, name, got, w)
			}
			missing := uint64(0)
			for _, d := range w.damage {
				missing += d.To - d.From
			}
			// The numbers at the end of the newest segment are known to nobody.
			if newest := name == w.newest(content); missing != c.Damaged || !newest && !header && missing != 1 {
				t.Fatalf("byte %d of %s: %d reported; %s", at, name, missing, w)
			}
			if !slices.ContainsFunc(w.disk.Names(".bad"), func(bad string) bool { return strings.HasPrefix(bad, name) }) {
				t.Fatalf("byte %d of %s: the file is not kept; %s", at, name, w)
			}
			w.log.Close()
		}
	}
}

// newest returns the name of the newest segment of left.
func (w *world) newest([]byte) string {
	names := left(w.t).disk.Names(".seg")
	return names[len(names)-1]
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
