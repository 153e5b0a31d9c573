// SPDX-License-Identifier: Apache-2.0

package journal_test

// How long a log with 1 GiB takes that the kernel does not have in its memory.

import (
	"io"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/ipctest"
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

// BenchmarkCold opens a log in which 1 GiB waits, and reads and handles it.
func BenchmarkCold(b *testing.B) {
	config := journal.Config{Sync: time.Second, MinFree: benchMinFree}
	path := gibibyte(b, config)
	b.Run("open", func(b *testing.B) {
		for range b.N {
			b.StopTimer()
			ipctest.Evict(b, path)
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
			bare += ipctest.ReadBare(b, path)
			ipctest.Evict(b, path)
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
