// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// collected returns a started Writer, and a function that stops it and returns what has arrived.
func collected(t *testing.T, opts ...udsipc.WriterOption) (w *udsipc.Writer, all func() []string) {
	t.Helper()
	var mu sync.Mutex
	var got []string
	path := ipctest.SocketPath(t)
	r := ipctest.StartReader(t, func(data []byte) error {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, string(data))
		return nil
	}, path)
	w = ipctest.StartWriter(t, path, opts...)
	return w, func() []string {
		ipctest.Stop(t, w)
		ipctest.Stop(t, r)
		return got
	}
}

// TestLines_Loggers_SendEntries: an entry of each logger of the standard library is a message.
func TestLines_Loggers_SendEntries(t *testing.T) {
	t.Parallel()
	w, all := collected(t)
	lines := w.Lines()
	log.New(lines, "app: ", log.Lmsgprefix).Printf("started %d", 7)
	noTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	slog.New(slog.NewTextHandler(lines, &slog.HandlerOptions{ReplaceAttr: noTime})).Warn("disk", "percent", 91)
	slog.New(slog.NewJSONHandler(lines, &slog.HandlerOptions{ReplaceAttr: noTime})).Info("a\nb")
	fmt.Fprintln(lines, "two\nlines")
	want := []string{
		"app: started 7", "level=WARN msg=disk percent=91", `{"level":"INFO","msg":"a\nb"}`, "two", "lines",
	}
	if got := all(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestLines_AnyDivision_SameMessages: only newlines end messages, however a text is divided among the calls.
func TestLines_AnyDivision_SameMessages(t *testing.T) {
	t.Parallel()
	const text = "first\n\nthird\r\n" + "a line that is longer than the others\n\xff\x00\nunfinished"
	want := strings.Split(text, "\n")
	w, all := collected(t)
	for size := 1; size <= len(text); size++ {
		lines := w.Lines()
		for part := range slices.Chunk([]byte(text), size) {
			if n, err := lines.Write(part); n != len(part) || err != nil {
				t.Fatal(n, err)
			}
			clear(part) // The caller may reuse it.
		}
		for range 2 { // The second time nothing is left.
			if err := lines.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	lines := w.Lines()
	for _, r := range []io.Reader{
		strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text)),
		iotest.DataErrReader(strings.NewReader(text)),
	} {
		if n, err := io.Copy(lines, r); n != int64(len(text)) || err != nil {
			t.Fatal(n, err)
		}
		if err := lines.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got, copies := all(), len(text)+3; !slices.Equal(got, slices.Repeat(want, copies)) {
		t.Errorf("%d messages, want %d times %q", len(got), copies, want)
	}
}

// TestLines_LongLine_IsDroppedWhole, wherever its end is, and the lines around it are sent.
func TestLines_LongLine_IsDroppedWhole(t *testing.T) {
	t.Parallel()
	const limit = 100
	w, all := collected(t, udsipc.WithMaxMessageSize(limit))
	lines, want, tooLarge := w.Lines(), []string{}, uint64(0)
	for size := limit - 2; size <= limit+2; size++ {
		for _, step := range []int{1, 7, limit, limit + 1, 3 * limit} {
			text := []byte("before\n" + strings.Repeat("x", size) + "\nafter\n")
			var failed error
			for part := range slices.Chunk(text, step) {
				n, err := lines.Write(part)
				if n != len(part) {
					t.Errorf("%d of %d bytes", n, len(part))
				}
				failed = errors.Join(failed, err)
			}
			if errors.Is(failed, udsipc.ErrMessageTooLarge) != (size > limit) {
				t.Errorf("%d bytes by %d: %v", size, step, failed)
			}
			if want = append(want, "before"); size <= limit {
				want = append(want, strings.Repeat("x", size))
			} else {
				tooLarge++
			}
			want = append(want, "after")
		}
	}
	for range 1000 {
		if _, err := lines.Write(make([]byte, limit)); err != nil {
			t.Fatal(err)
		}
	}
	if err := lines.Close(); !errors.Is(err, udsipc.ErrMessageTooLarge) {
		t.Error(err)
	}
	if m := w.Metrics(); m.TooLarge != tooLarge+1 {
		t.Errorf("%d were too large, want %d", m.TooLarge, tooLarge+1)
	}
	if got := all(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestLines_FullQueue_CountsDrops: Write does not wait, takes everything, and says that lines were dropped.
func TestLines_FullQueue_CountsDrops(t *testing.T) {
	t.Parallel()
	var left []string
	w := ipctest.NewWriter(t, ipctest.SocketPath(t), udsipc.WithMaxBufferedWrites(3),
		udsipc.WithUndelivered(func(data []byte) { left = append(left, string(data)) }))
	lines := w.Lines()
	if n, err := lines.Write([]byte("1\n2\n3\n4\n5\nsi")); n != 12 || !errors.Is(err, udsipc.ErrBufferFull) {
		t.Error(n, err)
	}
	if n, err := lines.Write([]byte("x\nse")); n != 4 || !errors.Is(err, udsipc.ErrBufferFull) {
		t.Error(n, err)
	}
	if err := lines.Close(); !errors.Is(err, udsipc.ErrBufferFull) {
		t.Error(err)
	}
	if m := w.Metrics(); m.Queued != 3 || m.Refused != 4 {
		t.Errorf("%+v", m)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_ = w.Stop(ended) // Says that three are left.
	if want := []string{"1", "2", "3"}; !slices.Equal(left, want) {
		t.Errorf("%q, want %q", left, want)
	}
	if n, err := lines.Write([]byte("late\n")); n != 5 || !errors.Is(err, udsipc.ErrStopped) {
		t.Error(n, err)
	}
}

// TestLines_OverflowBlock_CopiesAll: io.Copy of more than the queue holds waits for the reader.
func TestLines_OverflowBlock_CopiesAll(t *testing.T) {
	t.Parallel()
	w, all := collected(t, udsipc.WithMaxBufferedWrites(10), udsipc.WithOverflow(udsipc.OverflowBlock))
	var text bytes.Buffer
	for n := range 20_000 {
		fmt.Fprintln(&text, n)
	}
	if _, err := io.Copy(w.Lines(), &text); err != nil {
		t.Fatal(err)
	}
	got := all()
	for n, line := range got {
		if line != fmt.Sprint(n) {
			t.Fatalf("line %d is %q", n, line)
		}
	}
	if len(got) != 20_000 {
		t.Errorf("%d lines", len(got))
	}
}

// TestLines_Concurrent_KeepsLinesWhole for calls that write whole lines, also beside parts of lines.
func TestLines_Concurrent_KeepsLinesWhole(t *testing.T) {
	t.Parallel()
	const writers, each = 8, 500
	w, all := collected(t, udsipc.WithMaxBufferedWrites(2*writers*each))
	lines := w.Lines()
	var done sync.WaitGroup
	for id := range writers {
		done.Go(func() {
			for n := range each {
				if _, err := fmt.Fprintf(lines, "%d says\n%d so\n", id, n); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done.Wait()
	counts := map[string]int{}
	for _, line := range all() {
		_, word, _ := strings.Cut(line, " ")
		counts[word]++
	}
	if len(counts) != 2 || counts["says"] != writers*each || counts["so"] != writers*each {
		t.Errorf("%v", counts)
	}
}

func TestLines_DoNotAllocate(t *testing.T) {
	w, _ := collected(t, udsipc.WithOverflow(udsipc.OverflowDropOldest))
	lines, entry := w.Lines(), []byte(strings.Repeat("x", 100)+"\n")
	if n := testing.AllocsPerRun(1000, func() {
		for _, part := range [][]byte{entry, entry[:50], entry[50:]} {
			if _, err := lines.Write(part); err != nil {
				t.Error(err)
			}
		}
	}); n > 0.5 && !ipctest.RaceEnabled { // The queue takes a chunk now and then.
		t.Errorf("%v allocations", n)
	}
}
