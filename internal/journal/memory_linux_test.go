// SPDX-License-Identifier: Apache-2.0

package journal_test

// What a log holds in memory, how often it asks the file system, and when it gives memory back.

import (
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/disktest"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/journal"
)

// TestAppend_Alone_AllocatesNothing: nor do Next and Handled.
func TestAppend_Alone_AllocatesNothing(t *testing.T) {
	log, start, end := openReal(t, t.TempDir(), journal.Config{Sync: time.Hour, MinFree: 1})
	defer end()
	frames := benchFrames(64, 128)
	got := testing.AllocsPerRun(200, func() {
		first, err := log.Append(frames, 64)
		if err != nil {
			t.Fatal(err)
		}
		if batch, err := log.Next(); err != nil || batch.First != first || batch.Count != 64 {
			t.Fatalf("%+v, %v; want 64 messages from %d on", batch, err, first)
		}
		if err := log.Handled(start.Writer, first+63, 0); err != nil {
			t.Fatal(err)
		}
	})
	if got >= 1 && !ipctest.RaceEnabled {
		t.Errorf("%v allocations, want none", got)
	}
}

// TestLog_ManySegmentsWait_TakesLittleMemory: opening and reading allocate by the segment, not by the message.
func TestLog_ManySegmentsWait_TakesLittleMemory(t *testing.T) {
	const batches, segmentSize, perSegment = 512, 64 << 10, 4 << 10
	path := t.TempDir()
	config := journal.Config{Sync: -1, SegmentSize: segmentSize}
	log, _, end := openReal(t, path, config)
	frames := benchFrames(256, 128)
	for range batches {
		if _, err := log.Append(frames, 256); err != nil {
			t.Fatal(err)
		}
	}
	segments := log.Counts().Segments
	end()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	log, start, end := openReal(t, path, config)
	defer end()
	messages := uint64(0)
	for {
		batch, err := log.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		messages += uint64(batch.Count)
	}
	runtime.ReadMemStats(&after)
	if messages != start.Found || messages != batches*256 {
		t.Errorf("%d messages of %d", messages, start.Found)
	}
	// Two windows: one for the newest segment at the opening, one for all that is read.
	bound := uint64(1<<20 + segments*perSegment)
	if got := after.TotalAlloc - before.TotalAlloc; got > bound && !ipctest.RaceEnabled {
		t.Errorf("%d bytes allocated for %d segments, want at most %d", got, segments, bound)
	}
}

// TestLog_Idle_GivesMemoryBack: the buffers of Append live until two intervals have passed without a message.
func TestLog_Idle_GivesMemoryBack(t *testing.T) {
	for _, interval := range []time.Duration{0, time.Second, -1} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, journal.Config{Sync: interval})
			w.open()
			w.write(1)
			if n := w.log.SpareGroups(); n != 1 {
				t.Errorf("sync %v: %d groups are kept, want 1", interval, n)
			}
			time.Sleep(3 * time.Second)
			synctest.Wait()
			if n := w.log.SpareGroups(); n != 0 {
				t.Errorf("sync %v: an idle log keeps %d groups", interval, n)
			}
			w.write(1)
			w.read(10)
			w.wantAll(3)
			w.log.Close()
		})
	}
}

// A smallDisk is in memory, has so many bytes free, and counts who asks.
type smallDisk struct {
	*disktest.Disk
	free, used uint64
	asked      int
}

func (d *smallDisk) Free() (uint64, error) {
	d.asked++
	entries, err := d.List()
	d.used = 0
	for _, entry := range entries {
		d.used += uint64(entry.Size)
	}
	return d.free - min(d.used, d.free), err
}

// TestAppend_MinFree_IsKept: the file system is asked for each 4 MiB that are written and once a second, and what a log
// writes never takes what has to stay free.
func TestAppend_MinFree_IsKept(t *testing.T) {
	const minFree, free = 10 << 20, 30 << 20
	now := time.Unix(1000, 0)
	d := &smallDisk{Disk: disktest.New(), free: free}
	log, _, err := journal.Open(d, journal.Config{Sync: -1, MinFree: minFree, SegmentSize: 64 << 20,
		Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	frames := benchFrames(100, 1000)
	written := 0
	for err == nil {
		if _, err = log.Append(frames, 100); err == nil {
			written += len(frames)
		}
	}
	room := int(d.free - minFree)
	if !errors.Is(err, journal.ErrFull) || written > room || written < room-2*len(frames)-64<<10 {
		t.Errorf("%v after %d bytes of %d", err, written, room)
	}
	if d.asked > 10 {
		t.Errorf("asked %d times", d.asked)
	}
	d.free += 1 << 20
	asked := d.asked
	for range 3 {
		if _, err = log.Append(frames, 100); err != nil {
			t.Errorf("with room again: %v", err)
		}
	}
	if d.asked != asked+1 {
		t.Errorf("asked %d times, want once", d.asked-asked)
	}
	d.free -= 5 << 20 // Another process writes.
	now = now.Add(time.Second)
	if _, err = log.Append(frames, 100); !errors.Is(err, journal.ErrFull) || d.asked != asked+2 {
		t.Errorf("%v after asking %d times, a second later", err, d.asked-asked)
	}
}
