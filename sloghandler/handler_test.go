// SPDX-License-Identifier: Apache-2.0

package sloghandler_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/sloghandler"
)

func TestMain(m *testing.M) { ipctest.Main(m) }

// started returns a started Writer, and the messages that arrive.
func started(t *testing.T, opts ...udsipc.WriterOption) (w *udsipc.Writer, got chan string) {
	t.Helper()
	path, got := ipctest.SocketPath(t), make(chan string, 10_000)
	ipctest.StartReader(t, func(data []byte) error { got <- string(data); return nil }, path)
	return ipctest.StartWriter(t, path, opts...), got
}

func TestHandler_JSON_IsComplete(t *testing.T) {
	w, got := started(t)
	handler := func(*testing.T) slog.Handler { return sloghandler.NewJSON(w, nil) }
	slogtest.Run(t, handler, func(t *testing.T) map[string]any {
		var record map[string]any
		if text := ipctest.Await(t, "the record arrives", got); json.Unmarshal([]byte(text), &record) != nil {
			t.Errorf("%q", text)
		}
		return record
	})
}

func TestHandler_Text_IsComplete(t *testing.T) {
	w, got := started(t)
	handler := func(*testing.T) slog.Handler { return sloghandler.NewText(w, nil) }
	slogtest.Run(t, handler, func(t *testing.T) map[string]any {
		return parseText(t, ipctest.Await(t, "the record arrives", got))
	})
}

// parseText returns the attributes of a record whose values have no spaces. Groups are maps.
func parseText(t *testing.T, text string) map[string]any {
	t.Helper()
	record := map[string]any{}
	for pair := range strings.SplitSeq(text, " ") {
		key, value, found := strings.Cut(pair, "=")
		if !found {
			t.Fatalf("%q", text)
		}
		names, within := strings.Split(key, "."), record
		for _, name := range names[:len(names)-1] {
			if within[name] == nil {
				within[name] = map[string]any{}
			}
			within = within[name].(map[string]any)
		}
		within[names[len(names)-1]] = value
	}
	return record
}

// TestHandler_EachRecord_IsOneMessage, whatever it contains, and levels and sources are those of package slog.
func TestHandler_EachRecord_IsOneMessage(t *testing.T) {
	w, got := started(t)
	level := new(slog.LevelVar)
	opts := &slog.HandlerOptions{Level: level, AddSource: true}
	for name, h := range map[string]slog.Handler{
		"json": sloghandler.NewJSON(w, opts), "text": sloghandler.NewText(w, opts),
	} {
		logger := slog.New(h).With("a", 1).WithGroup("g")
		level.Set(slog.LevelWarn)
		logger.Info("not this one")
		level.Set(slog.LevelDebug)
		logger.Debug("two\nlines\n", "b", "x\ny")
		text := ipctest.Await(t, "the record arrives", got)
		if strings.Contains(text, "\n") || !strings.Contains(text, `two\nlines\n`) ||
			!strings.Contains(text, "handler_test.go") {
			t.Errorf("%s: %q", name, text)
		}
	}
}

// TestHandler_FullQueue_CountsDrops: nothing waits, and what is derived counts with its origin.
func TestHandler_FullQueue_CountsDrops(t *testing.T) {
	t.Parallel()
	w := ipctest.NewWriter(t, ipctest.SocketPath(t), udsipc.WithMaxBufferedWrites(2), udsipc.WithMaxMessageSize(200))
	h := sloghandler.NewJSON(w, nil)
	logger := slog.New(h)
	logger.Info("first")
	logger.With("a", 1).Info("second")
	logger.WithGroup("g").Info("third")
	logger.With("b", 2).Info("fourth")
	logger.Info(strings.Repeat("x", 200))
	if m := w.Metrics(); m.Queued != 2 || m.Refused != 2 || m.TooLarge != 1 || h.Dropped() != 3 {
		t.Errorf("%+v, %d dropped", m, h.Dropped())
	}
	err := h.Handle(t.Context(), slog.Record{Message: "fifth"})
	if !errors.Is(err, udsipc.ErrBufferFull) || h.Dropped() != 4 {
		t.Errorf("%v, %d dropped", err, h.Dropped())
	}
}

// TestHandler_Concurrent_LosesNothing: what is not dropped arrives, and each record is whole.
func TestHandler_Concurrent_LosesNothing(t *testing.T) {
	t.Parallel()
	const loggers, each = 8, 500
	w, got := started(t, udsipc.WithMaxBufferedWrites(2*loggers*each))
	h := sloghandler.NewJSON(w, nil)
	var done sync.WaitGroup
	for id := range loggers {
		done.Go(func() {
			logger := slog.New(h).With("logger", id)
			for n := range each {
				logger.Info("record", "n", n)
			}
		})
	}
	done.Wait()
	next := [loggers]int{}
	for range loggers * each {
		var record struct{ Logger, N int }
		if text := ipctest.Await(t, "a record arrives", got); json.Unmarshal([]byte(text), &record) != nil {
			t.Fatalf("%q", text)
		}
		if record.N != next[record.Logger] {
			t.Fatalf("record %d of logger %d, want %d", record.N, record.Logger, next[record.Logger])
		}
		next[record.Logger]++
	}
	if h.Dropped() != 0 {
		t.Errorf("%d dropped", h.Dropped())
	}
}

// TestHandler_AllocatesNoMore than the handlers of package slog.
func TestHandler_AllocatesNoMore(t *testing.T) {
	w, _ := discarding(t)
	for name, pair := range map[string][2]slog.Handler{
		"json": {slog.NewJSONHandler(io.Discard, nil), sloghandler.NewJSON(w, nil)},
		"text": {slog.NewTextHandler(io.Discard, nil), sloghandler.NewText(w, nil)},
	} {
		var allocations [2]float64
		for i, h := range pair {
			logger := slog.New(h).With("program", "test").WithGroup("g")
			allocations[i] = testing.AllocsPerRun(2000, func() {
				logger.LogAttrs(context.Background(), slog.LevelInfo, "record",
					slog.Int("n", 1000), slog.String("s", "text"))
			})
		}
		if allocations[1] > allocations[0] && !ipctest.RaceEnabled { // With it, pools drop what they are given.
			t.Errorf("%s: %v allocations a record, package slog %v", name, allocations[1], allocations[0])
		}
	}
}

// discarding returns a Writer whose Reader ignores what comes.
func discarding(t testing.TB) (w *udsipc.Writer, r *udsipc.Reader) {
	path := ipctest.SocketPath(t)
	r = ipctest.StartReader(t, ipctest.Ignore, path)
	return ipctest.StartWriter(t, path), r
}

func BenchmarkHandler(b *testing.B) {
	w, _ := discarding(b)
	for name, h := range map[string]slog.Handler{
		"slog to nowhere": slog.NewJSONHandler(io.Discard, nil), "Handler": sloghandler.NewJSON(w, nil),
	} {
		b.Run(name, func(b *testing.B) {
			logger := slog.New(h)
			b.ReportAllocs()
			for n := range b.N {
				logger.LogAttrs(context.Background(), slog.LevelInfo, "record", slog.Int("n", n))
			}
		})
	}
}

// TestHandler_AsDefault_LogsForItsOwnWriter: a Writer may log to itself that its collector is away.
func TestHandler_AsDefault_LogsForItsOwnWriter(t *testing.T) {
	before := slog.Default()
	defer slog.SetDefault(before)
	w, err := udsipc.NewWriter(ipctest.SocketPath(t), udsipc.WithMaxBufferedWrites(100))
	if err != nil {
		t.Fatal(err)
	}
	slog.SetDefault(slog.New(sloghandler.NewJSON(w, nil)))
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	for n := range 200 {
		slog.Info(fmt.Sprint("record ", n))
	}
	if m := w.Metrics(); m.Refused < 100 {
		t.Errorf("%+v", m)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Stop(ended); !errors.Is(err, context.Canceled) { // It logs what is left, to itself.
		t.Error(err)
	}
}
