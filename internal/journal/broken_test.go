// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"testing"

	"github.com/udsipc/udsipc/internal/disktest"
	"github.com/udsipc/udsipc/internal/journal"
)

// TestOpen_BrokenFile_DoesNotHoldUpOthers: the file system cannot read one file at all. The spool opens, the messages
// of that file are reported, and all others arrive.
func TestOpen_BrokenFile_DoesNotHoldUpOthers(t *testing.T) {
	r := leave(t, 0, func(w *world) { w.log.Close() })
	names := append(r.world.disk.Names(".seg"), "state", "handled")
	for _, name := range names {
		content := r.files[name]
		w := r.with(t, name, content)
		w.disk.Fault = func(op disktest.Op, file string) error {
			if op == disktest.OpOpen && file == name {
				return disktest.ErrBroken
			}
			return nil
		}
		w.open()
		lost := uint64(0)
		for _, b := range r.batches[name] {
			lost += uint64(b.Count)
		}
		found := w.log.Counts().Messages
		w.write(1)
		w.read(1000)
		c := w.log.Counts()
		if c.Messages != 0 || c.Damaged != lost || c.Sent != found+1-lost || (lost > 0) != (len(w.damage) > 0) {
			t.Errorf("%s, with %d messages: %s; %+v", name, lost, w, w.damage)
		}
		w.log.Close()
	}
}

// TestNext_BrokenFile_DoesNotHoldUpOthers: it breaks while the log is open.
func TestNext_BrokenFile_DoesNotHoldUpOthers(t *testing.T) {
	w := newWorld(t, journal.Config{Sync: -1, SegmentSize: 200})
	w.open()
	for range 12 {
		w.write(1)
	}
	broken := w.disk.Names(".seg")[1]
	w.disk.Fault = func(op disktest.Op, file string) error {
		if op == disktest.OpOpen && file == broken {
			return disktest.ErrBroken
		}
		return nil
	}
	w.read(1000)
	c := w.log.Counts()
	if c.Messages != 0 || c.Damaged == 0 || c.Damaged+c.Sent != 12 || len(w.damage) == 0 || w.last != 12 {
		t.Errorf("%s; %+v", w, w.damage)
	}
	w.log.Close()
}
