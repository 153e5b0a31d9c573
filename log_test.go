// SPDX-License-Identifier: Apache-2.0

package udsipc_test

// This file has the tests of when a line is written and on which goroutine. log_lines_test.go has the lines.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// A lineLog is a slog.Handler that keeps the lines: level, message, and attributes but the address.
type lineLog struct {
	mu    sync.Mutex
	lines []string
	began time.Time
}

func newLineLog() *lineLog { return &lineLog{began: time.Now()} }

func (l *lineLog) Enabled(context.Context, slog.Level) bool { return true }
func (l *lineLog) WithAttrs([]slog.Attr) slog.Handler       { panic("not used") }
func (l *lineLog) WithGroup(string) slog.Handler            { panic("not used") }

func (l *lineLog) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "address" {
			line += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		}
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	return nil
}

// all returns the lines.
func (l *lineLog) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

func (l *lineLog) has(parts ...string) bool {
	for line := range strings.Lines(l.all() + "\n") {
		missing := false
		for _, part := range parts {
			missing = missing || !strings.Contains(line, part)
		}
		if !missing {
			return true
		}
	}
	return false
}

// nowhere is the dialer of an address where nobody listens.
func nowhere(context.Context) (net.Conn, error) { return nil, errors.New("nothing there") }

// ended is a context that has ended.
func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func TestWithLogger_Nil_IsAnError(t *testing.T) {
	_, writerErr := udsipc.NewWriter("/run/app.sock", udsipc.WithLogger(nil))
	_, readerErr := udsipc.NewReader(ipctest.Ignore, "/run/app.sock", udsipc.WithLogger(nil))
	for _, err := range []error{writerErr, readerErr} {
		if err == nil || !strings.Contains(err.Error(), "WithLogger(nil)") {
			t.Errorf("the error is %v, want one that names WithLogger(nil)", err)
		}
	}
}

// TestLogger_NobodyListens_GrowingSteps: nothing for a reader that restarts, then few lines, and one when it is back.
func TestLogger_NobodyListens_GrowingSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLineLog()
		var back atomic.Bool
		var reports atomic.Int32
		w, err := udsipc.NewWriter("nowhere", udsipc.WithLogger(slog.New(lines)), udsipc.WithMaxBackoff(time.Second),
			udsipc.WithWriterErrorCallback(func(error, string) { reports.Add(1) }),
			udsipc.WithDialer(func(ctx context.Context) (net.Conn, error) {
				if !back.Load() {
					return nowhere(ctx)
				}
				here, there := net.Pipe()
				go func() { // Ends with the Writer.
					for b := make([]byte, 1); ; {
						if _, err := there.Read(b); err != nil {
							return
						}
					}
				}()
				return here, nil
			}))
		if err != nil || w.Start() != nil || w.WriteMessage([]byte("kept")) != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			at    time.Duration
			lines int
		}{{900 * time.Millisecond, 0}, {3 * time.Second, 1}, {12 * time.Second, 2}, {62 * time.Second, 3},
			{302 * time.Second, 4}, {902 * time.Second, 5}, {4502 * time.Second, 9}} {
			time.Sleep(step.at - time.Since(lines.began))
			synctest.Wait()
			if got := strings.Count(lines.all(), "WARN udsipc: cannot connect attempts="); got != step.lines {
				t.Errorf("%d lines after %v, want %d:\n%s", got, step.at, step.lines, lines.all())
			}
		}
		if got := reports.Load(); got != 10 {
			t.Errorf("%d reports, want the first and one for each line", got)
		}
		if !lines.has("waiting=1 err=nobody listens: nothing there") {
			t.Error(lines.all())
		}
		back.Store(true)
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		if got := strings.Count(lines.all(), "\n"); got != 9 || !lines.has("INFO udsipc: connected again attempts=") {
			t.Error(lines.all())
		}
		_ = w.Close()
	})
}

// TestLogger_Callback_TakesTheDefaultsPlace, but not that of a logger that was set.
func TestLogger_Callback_TakesTheDefaultsPlace(t *testing.T) {
	lines := newLineLog()
	before := slog.Default()
	defer slog.SetDefault(before)
	slog.SetDefault(slog.New(lines))
	for _, set := range []bool{false, true} {
		opts := []udsipc.WriterOption{
			udsipc.WithDialer(nowhere), udsipc.WithWriterErrorCallback(func(error, string) {}),
		}
		if set {
			opts = append(opts, udsipc.WithLogger(slog.New(lines)))
		}
		w := ipctest.NewWriter(t, "nowhere", opts...)
		ipctest.MustWriteMessage(t, w, "lost")
		_ = w.Stop(t.Context())
		if lines.has("stopped before everything") != set {
			t.Errorf("WithLogger %v: %s", set, lines.all())
		}
	}
}

// TestLogger_WritesToItself: the lines about a Writer go to that Writer, which drops them, waits for room, and is
// stopped. That ends, and makes few lines.
func TestLogger_WritesToItself(t *testing.T) {
	for _, policy := range []udsipc.OverflowPolicy{
		udsipc.OverflowRefuse, udsipc.OverflowBlock, udsipc.OverflowDropOldest,
	} {
		t.Run(policy.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var w *udsipc.Writer
				var lines atomic.Int32
				w, err := udsipc.NewWriter("nowhere", udsipc.WithDialer(nowhere), udsipc.WithOverflow(policy),
					udsipc.WithMaxBufferedWrites(1), udsipc.WithMaxBufferedBytes(1<<16),
					udsipc.WithLogger(slog.New(slog.NewTextHandler(writerFunc(func(line []byte) (int, error) {
						lines.Add(1)
						return len(line), w.WriteMessage(line)
					}), nil))))
				if err != nil || w.WriteMessage([]byte("first")) != nil || w.Start() != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				if got := lines.Load(); got < 1 || got > 20 {
					t.Errorf("%d lines, want 1 to 20", got)
				}
				began := time.Now()
				_ = w.Stop(ended(t))
				if took := time.Since(began); took > time.Second {
					t.Errorf("Stop took %v", took)
				}
				time.Sleep(time.Hour) // Nothing goes on behind it.
				if synctest.Wait(); lines.Load() > 20 {
					t.Errorf("%d lines", lines.Load())
				}
			})
		})
	}
}

// A writerFunc is an io.Writer.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestLogger_ThatBlocks_DelaysNothing: neither messages nor, by more than a second, Stop.
func TestLogger_ThatBlocks_DelaysNothing(t *testing.T) {
	for name, block := range map[string]func(<-chan struct{}){
		"hangs":              func(release <-chan struct{}) { <-release },
		"ends its goroutine": func(<-chan struct{}) { runtime.Goexit() },
	} {
		t.Run(name, func(t *testing.T) {
			release, handled := make(chan struct{}), make(chan string, 10)
			called := make(chan struct{}, 10)
			logger := slog.New(slog.NewTextHandler(writerFunc(func(line []byte) (int, error) {
				called <- struct{}{}
				block(release)
				return len(line), nil
			}), nil))
			r, err := udsipc.NewReader(func(data []byte) error {
				handled <- string(data)
				return errors.New("no")
			}, ipctest.SocketPath(t), udsipc.WithLogger(logger))
			if err != nil || r.Start() != nil {
				t.Fatal(err)
			}
			w := ipctest.StartWriter(t, r.Addr().String())
			for _, text := range []string{"1", "2", "3"} {
				ipctest.MustWriteMessage(t, w, text)
				if got := ipctest.Await(t, "a message", handled); got != text {
					t.Errorf("got %s", got)
				}
				if text == "1" {
					ipctest.Await(t, "the logger", called)
				}
			}
			if err := r.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			close(release)
		})
	}
}

// TestLogger_Flood_FewLines: neither a client that is refused again and again nor a handler that fails for each message
// floods the log, and the sums are complete.
func TestLogger_Flood_FewLines(t *testing.T) {
	const refused, failures = 200, 5000
	lines := newLineLog()
	path := ipctest.SocketPath(t)
	r := ipctest.StartReader(t, func([]byte) error { return errors.New("no") }, path,
		udsipc.WithLogger(slog.New(lines)), udsipc.WithMaxConnections(1), udsipc.WithInactivityTimeout(0))
	w := ipctest.StartWriter(t, path)
	for range failures {
		if err := w.WriteMessageContext(t.Context(), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	for range refused {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	ipctest.Until(t, "everything has happened", func() bool {
		m := r.Metrics()
		return m.HandlerErrors == failures && m.Refused == refused
	})
	ipctest.Stop(t, r)
	sums := map[string]int{}
	for line := range strings.Lines(lines.all()) {
		for _, kind := range []string{"handler failed", "too many connections"} {
			if _, rest, ok := strings.Cut(line, kind); ok && strings.HasPrefix(line, "WARN") {
				_, rest, _ = strings.Cut(rest, "times=")
				var n int
				if _, err := fmt.Sscan(rest, &n); err != nil {
					t.Error(err)
				}
				sums[kind] += n
			}
		}
	}
	if sums["handler failed"] != failures || sums["too many connections"] != refused {
		t.Errorf("%v:\n%s", sums, lines.all())
	}
	if got := strings.Count(lines.all(), "\n"); got > 20 {
		t.Errorf("%d lines:\n%s", got, lines.all())
	}
}
