// SPDX-License-Identifier: Apache-2.0

package spool_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/spool"
)

// TestWriter_Drops_AreReported while the reader is away, to a callback that may write to the Writer.
func TestWriter_Drops_AreReported(t *testing.T) {
	p := newPlace(t)
	told := make(chan error, 1)
	var w *spool.Writer
	ready := make(chan struct{})
	w = p.open(append(small(udsipc.OverflowDropOldest), spool.WithWriter(
		udsipc.WithWriterErrorCallback(func(err error, _ string) {
			if !errors.Is(err, spool.ErrSpoolFull) {
				return
			}
			<-ready
			if err := w.WriteMessage([]byte("from the callback")); err != nil {
				t.Error(err)
			}
			select {
			case told <- err:
			default:
			}
		})))...)
	close(ready)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	for w.Metrics().Dropped == 0 {
		if err := w.WriteMessage(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-told; !strings.Contains(err.Error(), "WithMaxBytes") || !strings.Contains(err.Error(), p.dir) {
		t.Error(err)
	}
}

// A lockedBuffer is a bytes.Buffer for a logger.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestWriter_Logger_SaysWhatIsDropped, and nothing of messages that stay in the spool when it stops.
func TestWriter_Logger_SaysWhatIsDropped(t *testing.T) {
	p, lines := newPlace(t), &lockedBuffer{}
	logger := spool.WithWriter(udsipc.WithLogger(slog.New(slog.NewTextHandler(lines, nil))))
	w, err := spool.NewWriter(p.dir, p.address, append(small(udsipc.OverflowDropOldest), logger)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	for w.Metrics().Dropped == 0 {
		if err := w.WriteMessage(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := lines.String(); !strings.Contains(got, "the oldest messages were dropped") ||
		!strings.Contains(got, `level=INFO msg="udsipc: stopped; messages stay on the disk for the next start"`) ||
		strings.Count(got, " spool="+p.dir) != strings.Count(got, "messages=") ||
		strings.Contains(got, "stopped before everything") {
		t.Error(got)
	}
}
