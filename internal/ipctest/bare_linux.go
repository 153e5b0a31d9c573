// SPDX-License-Identifier: Apache-2.0

package ipctest

// This file is a disk without a spool, for benchmarks: what it takes for the same bytes.

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// A BareFile is written with a sync each, and made anew when it has the size of a segment.
type BareFile struct {
	Path  string
	Syncs []time.Duration // How long each took.

	file *os.File
	size int64
}

// Append writes data and syncs it.
func (f *BareFile) Append(tb testing.TB, data []byte) {
	if f.file == nil || f.size > 16<<20 {
		if f.file != nil {
			f.file.Close()
			os.Remove(f.Path)
		}
		var err error
		if f.file, err = os.Create(f.Path); err != nil {
			tb.Fatal(err)
		}
		f.size = 0
	}
	if _, err := f.file.WriteAt(data, f.size); err != nil {
		tb.Fatal(err)
	}
	f.size += int64(len(data))
	began := time.Now()
	if err := syscall.Fdatasync(int(f.file.Fd())); err != nil {
		tb.Fatal(err)
	}
	f.Syncs = append(f.Syncs, time.Since(began))
}

// ReportShare reports a spool beside the bare file. Its turns and those of the file have the same messages. The
// medians leave out what others do to the disk.
func (f *BareFile) ReportShare(b *testing.B, bare, own []time.Duration, messages int) {
	of, took := median(bare), median(own)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(of.Seconds()/took.Seconds(), "of-bare")
	b.ReportMetric(float64(messages)/took.Seconds(), "messages/s")
	b.ReportMetric(float64(median(f.Syncs).Microseconds()), "µs/bare-sync")
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return append(times, 0)[len(times)/2]
}

// Evict takes the files of a directory out of the memory of the kernel.
func Evict(tb testing.TB, path string) {
	tb.Helper()
	const dontNeed = 4 // POSIX_FADV_DONTNEED
	each(tb, path, func(file *os.File) error {
		if err := file.Sync(); err != nil {
			return err
		}
		return fadvise(file, dontNeed)
	})
	os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0) // The directory; only root may.
}

// ReadBare returns how long the disk takes for the files of a directory that is evicted.
func ReadBare(tb testing.TB, path string) time.Duration {
	Evict(tb, path)
	began := time.Now()
	buf := make([]byte, 128<<10)
	each(tb, path, func(file *os.File) (err error) {
		for err == nil {
			_, err = file.Read(buf)
		}
		return nil
	})
	return time.Since(began)
}

// each calls do with each file of a directory.
func each(tb testing.TB, path string, do func(file *os.File) error) {
	tb.Helper()
	entries, err := os.ReadDir(path)
	for _, entry := range entries {
		if err != nil {
			break
		}
		var file *os.File
		if file, err = os.Open(filepath.Join(path, entry.Name())); err == nil {
			err = do(file)
			file.Close()
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
}
