// SPDX-License-Identifier: Apache-2.0

package journal_test

// Damaged segments are kept, but not all of them for ever.

import (
	"slices"
	"testing"

	"github.com/udsipc/udsipc/internal/journal"
	"github.com/udsipc/udsipc/internal/segment"
)

// TestLog_ManyDamaged_KeepsTheNewest: of those whose header cannot be read, and of those with a damaged batch.
func TestLog_ManyDamaged_KeepsTheNewest(t *testing.T) {
	w := newWorld(t, journal.Config{SegmentSize: 100})
	w.open()
	w.writeEach(40)
	var want []string
	for i, name := range w.disk.Names(".seg") {
		content, _ := w.disk.Content(name)
		content[len(content)-1] ^= 1
		if i%2 == 0 {
			content[3] ^= 1
		}
		w.disk.SetContent(name, content)
		want = append(want, name+".bad")
	}
	w.disk.SetContent("kept.bad", []byte("of somebody else"))
	w.disk = w.disk.Kill()
	w.open()
	w.writeEach(1)
	w.read(1000)
	w.writeEach(1)
	if want = append(want[len(want)-16:], "kept.bad"); !slices.Equal(w.disk.Names(".bad"), want) {
		t.Errorf("%q, want %q", w.disk.Names(".bad"), want)
	}
	if w.got[41] != 1 {
		t.Errorf("message 41 was handled %d times", w.got[41])
	}
	if _, _, ok := segment.ParseName(w.disk.Names(".seg")[0]); !ok {
		t.Errorf("%q", w.disk.Names(""))
	}
	w.check()
	w.log.Close()
}
