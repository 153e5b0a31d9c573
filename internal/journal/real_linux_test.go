// SPDX-License-Identifier: Apache-2.0

package journal_test

// The directory of the operating system below a log.

import (
	"io"
	"testing"

	"github.com/udsipc/udsipc/internal/disk"
	"github.com/udsipc/udsipc/internal/journal"
	"github.com/udsipc/udsipc/internal/wire"
)

// openReal opens a log in a directory of its own.
func openReal(tb testing.TB, path string, config journal.Config) (*journal.Log, journal.Start, func()) {
	tb.Helper()
	d, err := disk.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	log, start, err := journal.Open(d, config)
	if err != nil {
		tb.Fatal(err)
	}
	return log, start, func() {
		if err := log.Close(); err != nil {
			tb.Error(err)
		}
		d.Close()
	}
}

func TestLog_RealDisk_KeepsMessages(t *testing.T) {
	path := t.TempDir()
	config := journal.Config{Sync: 0, SegmentSize: 1000, MinFree: 1}
	log, start, end := openReal(t, path, config)
	for range 100 {
		if _, err := log.Append(wire.AppendFrame(nil, make([]byte, 50)), 1); err != nil {
			t.Fatal(err)
		}
	}
	end()
	log, again, end := openReal(t, path, config)
	defer end()
	if again.Writer != start.Writer || again.Next != 101 || again.Found != 100 || again.Starts != start.Starts+1 {
		t.Errorf("%+v, then %+v", start, again)
	}
	next := uint64(1)
	for {
		b, err := log.Next()
		if err == io.EOF {
			break
		}
		if err != nil || b.First != next {
			t.Fatalf("%+v, %v; want message %d", b, err, next)
		}
		next += uint64(b.Count)
	}
	if next != 101 {
		t.Errorf("messages up to %d, want 100", next-1)
	}
}
