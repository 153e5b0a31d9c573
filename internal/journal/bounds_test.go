// SPDX-License-Identifier: Apache-2.0

package journal_test

// Bounds: what is refused, dropped, and expired.

import (
	"errors"
	"math"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/disk"
	"github.com/udsipc/udsipc/internal/disktest"
	"github.com/udsipc/udsipc/internal/journal"
)

func TestAppend_OverMaxBytes_IsFullUntilHandled(t *testing.T) {
	w := newWorld(t, journal.Config{Sync: -1, MaxBytes: 1000})
	w.open()
	for w.write(1) == nil {
	}
	room := w.log.Room()
	if err := w.write(1); !errors.Is(err, journal.ErrFull) || w.log.Counts().Bytes > 1000 {
		t.Errorf("%v, %s", err, w)
	}
	select {
	case <-room:
		t.Error("there is room")
	default:
	}
	w.read(100)
	<-room
	if err := w.write(1); err != nil {
		t.Error(err)
	}
	w.log.Close()
}

func TestAppend_DropOldest_TakesWholeSegments(t *testing.T) {
	w := newWorld(t, journal.Config{Sync: -1, MaxBytes: 1000, DropOldest: true})
	w.open()
	for n := range 100 {
		if err := w.write(1); err != nil {
			t.Fatal(err)
		}
		if n == 50 {
			w.read(3)
		}
		w.check()
	}
	w.read(100)
	c := w.log.Counts()
	if c.Bytes > 1000 || c.Dropped < 50 || c.Dropped+c.Sent != 100 || w.last != 100 || len(w.damage) != 0 {
		t.Errorf("%s", w)
	}
	w.log.Close()
}

func TestLog_MaxAge_Expires(t *testing.T) {
	now := time.Unix(1000, 0)
	w := newWorld(t, journal.Config{Sync: -1, SegmentSize: 200, MaxAge: time.Minute, Now: func() time.Time { return now }})
	w.open()
	for range 10 {
		w.write(1)
	}
	now = now.Add(2 * time.Minute)
	w.write(1)
	w.read(100)
	if c := w.log.Counts(); c.Expired != 10 || c.Sent != 1 || w.last != 11 {
		t.Errorf("%s", w)
	}
	now = now.Add(-time.Hour) // A clock that jumps costs nothing.
	w.write(1)
	w.read(100)
	w.check()
	if w.last != 12 {
		t.Errorf("message %d was handled last; %s", w.last, w)
	}
	w.log.Close()
}

func TestHandled_BeyondTheEnd_IsErrAhead(t *testing.T) {
	w := newWorld(t, journal.Config{})
	w.open()
	w.write(3)
	if err := w.log.Handled(w.start.Writer, 4, 0); !errors.Is(err, journal.ErrAhead) {
		t.Errorf("%v, want %v", err, journal.ErrAhead)
	}
	if err := w.log.Handled(w.start.Writer, 2, 0); err != nil || w.log.Counts().Messages != 1 {
		t.Errorf("%v, %s", err, w)
	}
	b, err := w.log.Next()
	if err != nil || b.First != 3 || b.Count != 1 {
		t.Errorf("%+v, %v; want message 3", b, err)
	}
	w.log.Close()
}

// TestCounts_SyncTimes_CountEachSync: of a segment.
func TestCounts_SyncTimes_CountEachSync(t *testing.T) {
	w := newWorld(t, journal.Config{Sync: 0})
	w.open()
	for n := range uint64(3) {
		w.write(1)
		c := w.log.Counts()
		if c.SyncTimes.Count != n+1 || c.SyncTimes.P50 > c.SyncTimes.P99 || c.SyncTimes.P99 > c.SyncTimes.Max {
			t.Errorf("after %d writes: %+v", n+1, c.SyncTimes)
		}
	}
	w.log.Close()
}

// TestAppend_NoNewSegment_KeepsItsName: a disk may be full, or read-only, for as long as 2^32 attempts.
func TestAppend_NoNewSegment_KeepsItsName(t *testing.T) {
	for _, op := range []disktest.Op{disktest.OpCreate, disktest.OpWrite} {
		w := newWorld(t, journal.Config{Sync: time.Second})
		w.open()
		w.disk.Fault = func(o disktest.Op, name string) error {
			if o == op && strings.HasSuffix(name, ".seg") {
				return syscall.EROFS
			}
			return nil
		}
		for range 3 {
			if err := w.write(1); !errors.Is(err, syscall.EROFS) {
				t.Fatalf("%s: %v, want %v", op, err, syscall.EROFS)
			}
		}
		w.disk.Fault = nil
		if err := w.write(1); err != nil {
			t.Fatal(err)
		}
		if got, want := w.disk.Names(".seg"), []string{"00000001-0000000000000001.seg"}; !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", op, got, want)
		}
		w.read(1)
		w.log.Close()
	}
}

// TestAppend_DiskFails_LeavesNothingBehind: each write tries to write again what was not synced.
func TestAppend_DiskFails_LeavesNothingBehind(t *testing.T) {
	for _, op := range []disktest.Op{disktest.OpCreate, disktest.OpWrite, disktest.OpSync} {
		w := newWorld(t, journal.Config{})
		w.open()
		if err := w.write(1); err != nil {
			t.Fatal(err)
		}
		w.disk.Fault = func(o disktest.Op, name string) error {
			if o == disktest.OpSync && strings.HasSuffix(name, ".seg") {
				return syscall.EIO
			}
			if (o == op || o == disktest.OpRemove) && strings.HasSuffix(name, ".new") {
				return syscall.EIO
			}
			return nil
		}
		for range 5 {
			if err := w.write(1); !errors.Is(err, syscall.EIO) {
				t.Fatalf("%s: %v, want %v", op, err, syscall.EIO)
			}
		}
		w.disk.Fault = nil
		if err := w.write(1); err != nil {
			t.Fatalf("%s: %v", op, err)
		}
		if got := w.disk.Names(".seg"); len(got) != 2 || got[1] > "00000010-" {
			t.Errorf("%s: %q; want one more segment, and a start below 16", op, got)
		}
		w.read(100)
		w.log.Close()
	}
}

// TestOpen_FileOfAnotherProgram_StaysAsItIs: it has the name of a hint.
func TestOpen_FileOfAnotherProgram_StaysAsItIs(t *testing.T) {
	for _, name := range []string{"state", "handled"} {
		w := newWorld(t, journal.Config{})
		w.disk.SetContent(name, []byte("running since Monday"))
		if err := w.tryOpen(); !errors.Is(err, disk.ErrUnsafe) {
			t.Errorf("%s: %v, want %v", name, err, disk.ErrUnsafe)
		}
		if got, _ := w.disk.Content(name); string(got) != "running since Monday" {
			t.Errorf("%s has %q now", name, got)
		}
	}
	w := newWorld(t, journal.Config{})
	w.open()
	if err := w.write(1); err != nil {
		t.Fatal(err)
	}
	w.log.Close()
	w.disk.SetContent("state", []byte("nothing that a spool has written")) // Where there are messages, this is damage.
	w.open()
	w.read(1)
	w.log.Close()
}

// TestAppend_MinFreeOfAll_IsFull: a sum that is larger than a number may be.
func TestAppend_MinFreeOfAll_IsFull(t *testing.T) {
	w := newWorld(t, journal.Config{MinFree: math.MaxUint64})
	w.disk.Quota = 1 << 20
	w.open()
	if err := w.write(1); !errors.Is(err, journal.ErrFull) {
		t.Errorf("%v, want %v", err, journal.ErrFull)
	}
	w.log.Close()
}

// TestOpen_NoState_IsTold: each start has a new identity then.
func TestOpen_NoState_IsTold(t *testing.T) {
	told := []error{}
	w := newWorld(t, journal.Config{OnSyncError: func(err error) { told = append(told, err) }})
	w.disk.Fault = func(op disktest.Op, name string) error {
		if name == "state" {
			return syscall.EACCES
		}
		return nil
	}
	w.open()
	if len(told) != 1 || !errors.Is(told[0], syscall.EACCES) {
		t.Errorf("%v, want %v once", told, syscall.EACCES)
	}
}

// TestCounts_AllHandled_HasNothingUnsynced: nothing is lost with the machine then, and nothing is synced any more.
func TestCounts_AllHandled_HasNothingUnsynced(t *testing.T) {
	w := newWorld(t, journal.Config{Sync: -1})
	w.open()
	if err := w.write(1); err != nil {
		t.Fatal(err)
	}
	if c := w.log.Counts(); c.Unsynced == 0 {
		t.Errorf("%+v: nothing was synced", c)
	}
	w.read(100)
	if c := w.log.Counts(); c.Unsynced != 0 {
		t.Errorf("%d bytes are not synced, and all is handled", c.Unsynced)
	}
	w.log.Close()
}
