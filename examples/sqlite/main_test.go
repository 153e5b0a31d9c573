// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

// TestMain is the program itself in a process that a test has started.
func TestMain(m *testing.M) {
	if arguments := os.Getenv("SQLITE_EXAMPLE"); arguments != "" {
		os.Args = append(os.Args[:1], strings.Fields(arguments)...)
		main()
		return
	}
	os.Exit(m.Run())
}

// A collector is the program in a process of its own.
type collector struct {
	*exec.Cmd
	t *testing.T
}

func startCollector(t *testing.T, dir string) *collector {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{exec.CommandContext(t.Context(), self), t}
	c.Dir, c.Stderr = dir, os.Stderr
	c.Env = append(os.Environ(), "SQLITE_EXAMPLE=collect")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// end sends a signal and waits for the end of the process.
func (c *collector) end(with syscall.Signal) {
	c.t.Helper()
	if err := c.Process.Signal(with); err != nil {
		c.t.Fatal(err)
	}
	if err := c.Wait(); (err == nil) != (with == syscall.SIGTERM) {
		c.t.Errorf("after %v: %v", with, err)
	}
}

func startWriter(tb testing.TB, address string) *udsipc.Writer {
	tb.Helper()
	w, err := udsipc.NewWriter(address, udsipc.WithAcknowledgements(), udsipc.WithOverflow(udsipc.OverflowBlock),
		udsipc.WithMaxBackoff(50*time.Millisecond))
	if err != nil {
		tb.Fatal(err)
	}
	if err := w.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { w.Close() })
	return w
}

// TestCollect_Killed_StoresEachEventOnce: the collector is killed again and again while four writers
// send.
func TestCollect_Killed_StoresEachEventOnce(t *testing.T) {
	const writers, kills, events = 4, 5, 2000 // Of each writer, for each life of the collector.
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	running := startCollector(t, dir)
	var ws []*udsipc.Writer
	for range writers {
		ws = append(ws, startWriter(t, filepath.Join(dir, "events.sock")))
	}
	acknowledged := func() (sum uint64) {
		for _, w := range ws {
			sum += w.Metrics().Acknowledged
		}
		return sum
	}
	written, interrupted := 0, 0
	for life := range kills + 1 {
		before := acknowledged()
		for range events {
			for _, w := range ws {
				if err := w.WriteMessageContext(ctx, fmt.Appendf(nil, `{"event": %d}`, written/writers)); err != nil {
					t.Fatal(err)
				}
				written++
			}
		}
		if life == kills {
			break
		}
		for tick := time.NewTicker(time.Millisecond); acknowledged() == before; <-tick.C {
			if ctx.Err() != nil {
				t.Fatal("nothing is acknowledged")
			}
		}
		running.end(syscall.SIGKILL)
		if acknowledged() < uint64(written) {
			interrupted++
		}
		running = startCollector(t, dir)
	}
	for _, w := range ws {
		if err := w.Stop(ctx); err != nil {
			t.Error(err)
		}
	}
	running.end(syscall.SIGTERM)
	t.Logf("%d of %d kills interrupted the writers", interrupted, kills)
	if interrupted == 0 {
		t.Error("no kill came while events were on their way")
	}
	checkStored(t, filepath.Join(dir, "events.db"), writers, written/writers)
}

// checkStored checks that the database has each event of each writer once, in its place.
func checkStored(t *testing.T, file string, writers, events int) {
	t.Helper()
	s, err := openStore(file)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	uneven := fmt.Sprintf(`SELECT count(*) FROM (SELECT count(*) AS n FROM events GROUP BY writer HAVING n != %d)`, events)
	for query, want := range map[string]string{
		`PRAGMA integrity_check`:      "ok",
		`PRAGMA journal_mode`:         "wal",
		`PRAGMA synchronous`:          "2", // FULL.
		`SELECT count(*) FROM events`: fmt.Sprint(writers * events),
		`SELECT count(*) FROM events WHERE body ->> 'event' != seq - 1`: "0",
		`SELECT max(seq) FROM events`:                                   fmt.Sprint(events),
		`SELECT count(*) FROM dead_letters`:                             "0",
		uneven:                                                          "0",
	} {
		var got string
		if err := s.db.QueryRow(query).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", query, got, err, want)
		}
	}
}

// TestCollect_RefusedEvents_AreDeadLetters: the others of their batches are stored.
func TestCollect_RefusedEvents_AreDeadLetters(t *testing.T) {
	dir := t.TempDir()
	address, file := filepath.Join(dir, "s"), filepath.Join(dir, "db")
	ctx, cancel := context.WithCancel(t.Context())
	collected := make(chan error, 1)
	go func() { collected <- collect(ctx, address, file) }() // Ends with ctx.
	var lines strings.Builder
	for n := range 300 {
		if n%100 == 50 {
			lines.WriteString("no JSON\n")
		} else {
			fmt.Fprintf(&lines, "{\"event\": %d}\n", n)
		}
	}
	if err := send(t.Context(), address, strings.NewReader(lines.String())); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-collected; err != nil {
		t.Error(err)
	}
	s, err := openStore(file)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var stored, dead int
	row := s.db.QueryRow(`SELECT (SELECT count(*) FROM events WHERE body ->> 'event' = seq - 1),
		(SELECT count(*) FROM dead_letters WHERE body = CAST('no JSON' AS BLOB) AND seq % 100 = 51)`)
	if err := row.Scan(&stored, &dead); err != nil || stored != 297 || dead != 3 {
		t.Errorf("%d events and %d dead letters, %v", stored, dead, err)
	}
}

// TestCollect_WithoutAcknowledgements_StoresEachWriter: a writer without an identity is not taken for another one.
func TestCollect_WithoutAcknowledgements_StoresEachWriter(t *testing.T) {
	dir := t.TempDir()
	address, file := filepath.Join(dir, "s"), filepath.Join(dir, "db")
	for range 2 { // Connections have the same numbers in the next process.
		ctx, cancel := context.WithCancel(t.Context())
		collected := make(chan error, 1)
		go func() { collected <- collect(ctx, address, file) }() // Ends with ctx.
		for range 2 {
			w, err := udsipc.NewWriter(address)
			if err == nil {
				err = w.Start()
			}
			for _, text := range []string{`{"event": 1}`, `{"event": 2}`, ""} {
				err = errors.Join(err, w.WriteMessage([]byte(text)))
			}
			if err = errors.Join(err, w.Stop(t.Context())); err != nil {
				t.Error(err)
			}
		}
		cancel()
		if err := <-collected; err != nil {
			t.Error(err)
		}
	}
	s, err := openStore(file)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var stored, dead int
	row := s.db.QueryRow(`SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM dead_letters)`)
	if err := row.Scan(&stored, &dead); err != nil || stored != 8 || dead != 4 {
		t.Errorf("%d events and %d dead letters, want 8 and 4: %v", stored, dead, err)
	}
}

// event is what the benchmarks store.
const event = `{"host": "web-7", "level": "info", "status": 200}`

const benchBatch = 1000

// BenchmarkBareLoop stores events in transactions of 1,000.
func BenchmarkBareLoop(b *testing.B) {
	s, err := openStore(filepath.Join(b.TempDir(), "db"))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	batch := make([]udsipc.Delivery, 0, benchBatch)
	b.ResetTimer()
	for n := range b.N {
		batch = append(batch, udsipc.Delivery{Data: []byte(event), Seq: uint64(n + 1)})
		if len(batch) == benchBatch || n == b.N-1 {
			if err := s.handle(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
			batch = batch[:0]
		}
	}
}

// BenchmarkCollector stores events that a Writer sends, in batches of 1,000 at most, until all of them
// are acknowledged.
func BenchmarkCollector(b *testing.B) {
	dir := b.TempDir()
	s, err := openStore(filepath.Join(dir, "db"))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	r, err := udsipc.NewBatchReader(s.handle, filepath.Join(dir, "s"), udsipc.WithSharedBatches(),
		udsipc.WithMaxBatch(benchBatch))
	if err != nil {
		b.Fatal(err)
	}
	if err := r.Start(); err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	w := startWriter(b, filepath.Join(dir, "s"))
	if err := w.WaitConnected(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for range b.N {
		if err := w.WriteMessage([]byte(event)); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	m := r.Metrics()
	b.ReportMetric(float64(m.Received)/float64(m.Batches), "events/batch")
}
