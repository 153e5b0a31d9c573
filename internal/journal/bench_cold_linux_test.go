// SPDX-License-Identifier: Apache-2.0

//go:build !arm

package journal_test

// How long a log with 1 GiB takes that the kernel does not have in its memory.

import (
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/journal"
)

// gibibyte writes 1 GiB that waits, and returns the directory.
func gibibyte(b *testing.B, config journal.Config) string {
	path := b.TempDir()
	log, _, end := openReal(b, path, config)
	frames := benchFrames(512, 128)
	for log.Counts().Bytes < 1<<30 {
		if _, err := log.Append(frames, 512); err != nil {
			b.Fatal(err)
		}
	}
	end()
	return path
}

// evict takes the files of a directory out of the memory of the kernel.
func evict(b *testing.B, path string) {
	b.Helper()
	const dontNeed = 4 // POSIX_FADV_DONTNEED
	entries, err := os.ReadDir(path)
	if err != nil {
		b.Fatal(err)
	}
	for _, entry := range entries {
		file, err := os.Open(filepath.Join(path, entry.Name()))
		if err != nil {
			b.Fatal(err)
		}
		file.Sync()
		if _, _, errno := syscall.Syscall6(syscall.SYS_FADVISE64, file.Fd(), 0, 0, dontNeed, 0, 0); errno != 0 {
			b.Fatal(errno)
		}
		file.Close()
	}
	os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0) // The directory; only root may.
}

// BenchmarkCold opens a log in which 1 GiB waits, and reads and handles it.
func BenchmarkCold(b *testing.B) {
	config := journal.Config{Sync: time.Second, MinFree: benchMinFree}
	path := gibibyte(b, config)
	b.Run("open", func(b *testing.B) {
		for range b.N {
			b.StopTimer()
			evict(b, path)
			b.StartTimer()
			_, _, end := openReal(b, path, config)
			b.StopTimer()
			end()
		}
		b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms")
	})
	b.Run("read", func(b *testing.B) {
		var bare time.Duration
		messages := 0
		for range b.N {
			b.StopTimer()
			bare += readBare(b, path)
			evict(b, path)
			log, _, end := openReal(b, path, config)
			b.StartTimer()
			messages = readLog(b, log)
			b.StopTimer()
			end()
		}
		b.ReportMetric(float64(messages), "messages")
		b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms")
		b.ReportMetric(float64(bare.Milliseconds())/float64(b.N), "bare-ms")
	})
}

// readLog reads all that waits.
func readLog(tb testing.TB, log *journal.Log) (messages int) {
	for {
		batch, err := log.Next()
		if err == io.EOF {
			return messages
		}
		if err != nil {
			tb.Fatal(err)
		}
		messages += batch.Count
	}
}

// readBare returns how long the disk takes for the files of a directory.
func readBare(b *testing.B, path string) time.Duration {
	evict(b, path)
	began := time.Now()
	entries, err := os.ReadDir(path)
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 128<<10)
	for _, entry := range entries {
		file, err := os.Open(filepath.Join(path, entry.Name()))
		if err != nil {
			b.Fatal(err)
		}
		for err == nil {
			_, err = file.Read(buf)
		}
		file.Close()
	}
	return time.Since(began)
}
