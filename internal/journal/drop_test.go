// SPDX-License-Identifier: Apache-2.0

package journal_test

// How room is made on a disk that has none.

import (
	"errors"
	"fmt"
	"testing"

	"github.com/udsipc/udsipc/internal/disk"
	"github.com/udsipc/udsipc/internal/disktest"
	"github.com/udsipc/udsipc/internal/journal"
)

// TestAppend_DropOldest_MakesRoomOnFullDisk: the disk, or a quota of it, is full before any bound is reached.
func TestAppend_DropOldest_MakesRoomOnFullDisk(t *testing.T) {
	for quota := int64(17 << 10); quota < 18<<10; quota += 7 {
		w := newWorld(t, journal.Config{Sync: 0, SegmentSize: 200, DropOldest: true})
		w.disk.Quota = quota
		w.open()
		for range 60 {
			if err := w.write(1); err != nil {
				t.Fatalf("quota %d: %v", quota, err)
			}
			w.check()
		}
		before := w.log.Counts()
		w.read(100)
		if c := w.log.Counts(); c.Dropped == 0 || before.Messages == 0 || c.Dropped+c.Sent != 60 || w.last != 60 {
			t.Fatalf("quota %d: %+v", quota, c)
		}
		w.log.Close()
	}
}

// A strangeDisk tells what a test wants of its free space.
type strangeDisk struct {
	*disktest.Disk
	free func() (uint64, error)
}

func (d *strangeDisk) Free() (uint64, error) { return d.free() }

// TestAppend_DropOldest_DropsNothingInVain: others have filled the disk, it tells nothing of its space, or its limit is
// that of one file.
func TestAppend_DropOldest_DropsNothingInVain(t *testing.T) {
	for name, test := range map[string]struct {
		free func() (uint64, error)
		err  error
		want error
	}{
		"filled": {func() (uint64, error) { return 1 << 10, nil }, nil, journal.ErrFull},
		"fails":  {func() (uint64, error) { return 0, errDevice }, nil, errDevice},
		"file size": {func() (uint64, error) { return 1 << 40, nil },
			fmt.Errorf("%w: %w", disk.ErrFull, disk.ErrFileSize), disk.ErrFull},
	} {
		free, err := func() (uint64, error) { return 1 << 40, nil }, error(nil)
		d := &strangeDisk{disktest.New(), func() (uint64, error) { return free() }}
		d.Fault = func(op disktest.Op, _ string) error {
			if op == disktest.OpWrite {
				return err
			}
			return nil
		}
		log, _, openErr := journal.Open(d, journal.Config{Sync: -1, SegmentSize: 100, MinFree: 1 << 20, DropOldest: true})
		if openErr != nil {
			t.Fatal(openErr)
		}
		for range 20 {
			if _, err := log.Append([]byte{1, 'a'}, 1); err != nil {
				t.Fatal(err)
			}
		}
		free, err = test.free, test.err
		if _, err := log.Append(make([]byte, 5<<20), 5<<20); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
		if c := log.Counts(); c.Dropped > 0 || c.Messages != 20 {
			t.Errorf("%s: %d are dropped", name, c.Dropped)
		}
		log.Close()
	}
}

// TestAppend_SpaceIsFreedLate_DropsEnoughOnly: on some file systems that of a removed file is free after a while.
func TestAppend_SpaceIsFreedLate_DropsEnoughOnly(t *testing.T) {
	space := uint64(1 << 40)
	d := &strangeDisk{disktest.New(), func() (uint64, error) { return space, nil }}
	log, _, err := journal.Open(d, journal.Config{Sync: -1, SegmentSize: 1000, MinFree: 1 << 20, DropOldest: true})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	frame := append([]byte{0xac, 0x02}, make([]byte, 300)...)
	for range 100 {
		if _, err := log.Append(frame, 1); err != nil {
			t.Fatal(err)
		}
	}
	space = 1 << 20
	if _, err := log.Append(make([]byte, 5<<20), 5<<20); !errors.Is(err, journal.ErrFull) {
		t.Error(err)
	}
	if _, err := log.Append(frame, 1); err != nil {
		t.Error(err)
	}
	if c := log.Counts(); c.Dropped == 0 || c.Dropped > 6 {
		t.Errorf("%d are dropped", c.Dropped)
	}
}
