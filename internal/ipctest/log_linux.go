// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

// A servedLog is the log that a service writes.
type servedLog struct{ Path string }

// maxRecords is how many records fit the memory of a test.
const maxRecords = 1 << 20

// each calls a function with each whole record of the log. A torrent writes gigabytes if something else hangs, so they
// are not all in memory.
func (l servedLog) each(tb testing.TB, use func(record string)) {
	tb.Helper()
	file, err := os.Open(l.Path)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	in, record := bufio.NewReaderSize(file, 1<<20), make([]byte, RecordSize)
	for {
		if _, err := io.ReadFull(in, record); err != nil {
			if err != io.EOF && err != io.ErrUnexpectedEOF {
				tb.Fatal(err)
			}
			return
		}
		use(string(record))
	}
}

// Records returns the records of the log.
func (l servedLog) Records(tb testing.TB) (list []string) {
	tb.Helper()
	l.each(tb, func(record string) {
		if list = append(list, record); len(list) > maxRecords {
			tb.Fatalf("the log has more than %d records", maxRecords)
		}
	})
	return list
}

// Want waits until the first records that are not numbers are texts.
func (l servedLog) Want(tb testing.TB, texts ...string) {
	tb.Helper()
	var got []string
	Until(tb, "the service has got "+strings.Join(texts, ", "), func() bool {
		got = got[:0]
		for _, record := range l.Records(tb) {
			got = append(got, strings.TrimSpace(record))
		}
		return len(got) >= len(texts)
	})
	if strings.Join(got, ",") != strings.Join(texts, ",") {
		tb.Errorf("the service has got %q, want %q", got, texts)
	}
}

// Numbers checks that all numbers below count were handled once and in order. It counts the marked
// repeats.
func (l servedLog) Numbers(tb testing.TB, count uint64) (repeats int) {
	tb.Helper()
	next, i := uint64(0), 0
	l.each(tb, func(record string) {
		got := binary.BigEndian.Uint64([]byte(record))
		switch {
		case got == next:
			next++
		case got < next && record[8] == 1:
			repeats++
		default:
			tb.Fatalf("record %d is number %d (repeat: %d), want %d", i, got, record[8], next)
		}
		i++
	})
	if next != count {
		tb.Errorf("%d numbers were handled, %d were sent", next, count)
	}
	return repeats
}

// NewServedLog returns an empty log in a directory of its own.
func NewServedLog(tb testing.TB) servedLog {
	tb.Helper()
	return servedLog{filepath.Join(OpenDir(tb), "log")}
}

// A torrent is a Writer that sends at full speed.
type torrent struct {
	W      *udsipc.Writer
	errs   *Reported
	Cancel context.CancelFunc
	Count  chan uint64
}

// End stops writing and returns how many messages were sent.
func (s *torrent) End(tb testing.TB) uint64 {
	tb.Helper()
	s.Cancel()
	count := Await(tb, "the end of writing", s.Count)
	Stop(tb, s.W)
	if m := s.W.Metrics(); m.Sent != count || m.PossiblyLost != 0 || m.Undelivered != 0 {
		tb.Errorf("sent %d of %d: %+v", m.Sent, count, m)
	}
	return count
}

// Progress waits until 1000 more messages were sent.
func (s *torrent) Progress(tb testing.TB) {
	tb.Helper()
	before := s.W.Metrics().Sent
	Until(tb, "the stream gets on", func() bool { return s.W.Metrics().Sent >= before+1000 })
}

// StartTorrent starts a Writer that sends numbers at full speed.
func StartTorrent(tb testing.TB, address string, opts ...udsipc.WriterOption) *torrent {
	tb.Helper()
	s := &torrent{errs: Collect(), Count: make(chan uint64, 1)}
	opts = append(opts, udsipc.WithOverflow(udsipc.OverflowBlock), udsipc.WithMaxBackoff(20*time.Millisecond),
		udsipc.WithWriterErrorCallback(s.errs.Callback))
	s.W = StartWriter(tb, address, opts...)
	ctx, cancel := context.WithCancel(tb.Context())
	s.Cancel = cancel
	go func() { // Ends with ctx.
		var n uint64
		for ; s.W.WriteMessageContext(ctx, Number(n, int(n%3000))) == nil; n++ {
		}
		s.Count <- n
	}()
	return s
}

// RecordSize is the size of a record for a message: its number, and whether it may be a repeat.
const RecordSize = 9
