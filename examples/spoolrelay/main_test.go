// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

// TestMain is the program itself in a process that a test has started.
func TestMain(m *testing.M) {
	if arguments := os.Getenv("SPOOLRELAY_EXAMPLE"); arguments != "" {
		os.Args = append(os.Args[:1], strings.Fields(arguments)...)
		main()
		return
	}
	os.Exit(m.Run())
}

// start starts a relay.
func start(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "SPOOLRELAY_EXAMPLE=spool in out")
	if cmd.Stderr = os.Stderr; !testing.Verbose() {
		cmd.Stderr = nil // It tells that the collector is away.
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

// startWriters starts writers of the relay.
func startWriters(t *testing.T, dir string, n int) (list []*udsipc.Writer) {
	t.Helper()
	for range n {
		w, err := udsipc.NewWriter(filepath.Join(dir, "in"), udsipc.WithAcknowledgements(),
			udsipc.WithMaxBackoff(50*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Start(); err != nil {
			t.Fatal(err)
		}
		list = append(list, w)
	}
	return list
}

// writeSome writes messages with the numbers from from on, and waits until the first writer has an acknowledgement.
func writeSome(ctx context.Context, t *testing.T, ws []*udsipc.Writer, from, messages int) {
	t.Helper()
	before := ws[0].Metrics().Acknowledged
	for n := range messages {
		for _, w := range ws {
			if err := w.WriteMessage(fmt.Append(nil, from+n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for tick := time.NewTicker(time.Millisecond); ws[0].Metrics().Acknowledged == before; <-tick.C {
		if ctx.Err() != nil {
			t.Fatal("nothing is acknowledged")
		}
	}
}

// TestRelay_Killed_CollectorGetsEachMessageOnce: the relay is killed while two writers send and the
// collector is away. The writers are gone when the collector comes.
func TestRelay_Killed_CollectorGetsEachMessageOnce(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no spool")
	}
	const writers, kills, messages = 2, 3, 300 // Of each writer, for each life of the relay.
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ws := startWriters(t, dir, writers)
	for life := range kills + 1 {
		relay := start(t, dir)
		writeSome(ctx, t, ws, life*messages, messages)
		if life == kills { // The disk has all before the last kill.
			for _, w := range ws {
				if err := w.Stop(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = relay.Process.Kill()
		_ = relay.Wait()
	}
	c := newCollector(writers * (kills + 1) * messages)
	r, err := udsipc.NewReader(c.handle, filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	start(t, dir)
	select {
	case <-c.complete:
	case <-ctx.Done():
		t.Fatalf("got %v", c.next)
	}
	if c.faults != nil {
		t.Error(c.faults)
	}
}

// A collector skips what it knows.
type collector struct {
	mu       sync.Mutex
	next     map[udsipc.WriterID]uint64 // Count of messages of each writer.
	left     int
	faults   []string
	complete chan struct{} // Closed when all messages are there.
}

func newCollector(messages int) *collector {
	return &collector{next: map[udsipc.WriterID]uint64{}, left: messages, complete: make(chan struct{})}
}

func (c *collector) handle(message []byte) error {
	writer, seq, data, err := parse(message)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && seq <= c.next[writer] {
		return nil
	}
	if want := fmt.Sprint(c.next[writer]); err != nil || seq != c.next[writer]+1 || string(data) != want {
		c.faults = append(c.faults, fmt.Sprintf("message %d is %q, want %s: %v", seq, data, want, err))
	}
	c.next[writer] = seq
	if c.left--; c.left == 0 {
		close(c.complete)
	}
	return nil
}

func TestParse_TooShort_IsError(t *testing.T) {
	d := udsipc.Delivery{Writer: udsipc.WriterID{1, 2}, Seq: 3, Data: []byte("data")}
	if writer, seq, data, err := parse(wrap(&d)); writer != d.Writer || seq != 3 || string(data) != "data" || err != nil {
		t.Errorf("%v, %d, %q, %v", writer, seq, data, err)
	}
	if _, _, _, err := parse(wrap(&d)[:prefixSize-1]); err == nil {
		t.Error("a message that is too short is no error")
	}
}
