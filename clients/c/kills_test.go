// SPDX-License-Identifier: Apache-2.0

package c_test

// This file kills and stops either end, again and again.

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// A counter counts how often each number was handled, and whether their order was right.
type counter struct {
	mu     sync.Mutex
	times  map[int]int
	last   int
	wrong  []string
	wanted int
	done   chan struct{}
}

func newCounter(wanted int) *counter {
	return &counter{times: map[int]int{}, wanted: wanted, done: make(chan struct{})}
}

func (c *counter) add(number int, redelivered bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if (c.times[number] > 0 || number != c.last+1) && !redelivered && len(c.wrong) < 10 {
		c.wrong = append(c.wrong, fmt.Sprintf("%d after %d", number, c.last))
	}
	c.last = number
	if c.times[number]++; c.times[number] == 1 && len(c.times) == c.wanted {
		close(c.done)
	}
}

func (c *counter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.times)
}

func (c *counter) check(t *testing.T, repeated bool) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := 1; n <= c.wanted; n++ {
		if c.times[n] == 0 || c.times[n] > 1 && !repeated {
			t.Fatalf("message %d was handled %d times", n, c.times[n])
		}
	}
	if len(c.wrong) > 0 {
		t.Errorf("out of order and not marked as redelivered: %v", c.wrong)
	}
}

// readHandled passes on what the program "handled" prints.
func (c *counter) readHandled(out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if n, err := strconv.Atoi(fields[len(fields)-1]); err == nil {
			c.add(n, fields[2] == "r")
		}
	}
}

// TestReader_EndsOften: a Writer in Go sends to a C reader that is killed, or stopped, again and again.
func TestReader_EndsOften(t *testing.T) {
	const messages = 20_000
	for name, test := range map[string]struct {
		signal syscall.Signal
		opts   []udsipc.WriterOption
	}{
		"killed":         {syscall.SIGKILL, []udsipc.WriterOption{udsipc.WithAcknowledgements()}},
		"stopped":        {syscall.SIGTERM, []udsipc.WriterOption{udsipc.WithAcknowledgements()}},
		"stopped, plain": {syscall.SIGTERM, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, sockets := programs(t)
			address, got := filepath.Join(sockets, "s"), newCounter(messages)
			opts := append(test.opts, udsipc.WithMaxBackoff(20*time.Millisecond), udsipc.WithMaxBufferedWrites(messages),
				udsipc.WithWriterErrorCallback(func(error, string) {}))
			w, err := udsipc.NewWriter(address, opts...)
			must(t, err)
			must(t, w.Start())
			sent := make(chan error, 1)
			go func() {
				var err error
				for n := 1; n <= messages && err == nil; n++ {
					err = w.WriteMessage(fmt.Append(nil, n))
				}
				sent <- errors.Join(err, w.Flush(t.Context()))
			}()
			for round := 0; got.count() < messages; round++ {
				reader := command(t, dir+"/handled", address)
				out, err := reader.StdoutPipe()
				must(t, err)
				must(t, reader.Start())
				read := make(chan struct{})
				go func() { defer close(read); got.readHandled(out) }()
				if round < 8 {
					before := got.count()
					ipctest.Until(t, "the reader has handled some", func() bool {
						return got.count() >= min(before+500, messages)
					})
				} else {
					<-got.done
				}
				must(t, reader.Process.Signal(test.signal))
				<-read
				_ = reader.Wait()
			}
			if lost := w.Metrics().PossiblyLost; lost > 0 {
				t.Errorf("%d possibly lost", lost)
			}
			got.check(t, test.signal == syscall.SIGKILL)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_ = w.Stop(ctx)
			<-sent
		})
	}
}

// TestWriter_ReaderEndsOften: a C writer sends to "udsipc listen --append", which is killed, or stopped, again and
// again. The file has all lines.
func TestWriter_ReaderEndsOften(t *testing.T) {
	const messages = 20_000
	for name, test := range map[string]struct {
		signal syscall.Signal
		mode   string
	}{
		"killed":         {syscall.SIGKILL, "session"},
		"stopped":        {syscall.SIGTERM, "session"},
		"stopped, plain": {syscall.SIGTERM, "plain"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, sockets := programs(t)
			address, file := filepath.Join(sockets, "s"), filepath.Join(sockets, "file")
			input := make([]byte, 0, messages*6)
			for n := 1; n <= messages; n++ {
				input = fmt.Appendln(input, n)
			}
			writer := command(t, dir+"/lines", test.mode, address, "loud")
			writer.Stdin = bytes.NewReader(input)
			must(t, writer.Start())
			done := make(chan error, 1)
			go func() { done <- writer.Wait() }()
			size := func() int64 {
				info, err := os.Stat(file)
				if err != nil {
					return 0
				}
				return info.Size()
			}
			var ended error
			for round, over := 0, false; !over; round++ {
				reader := command(t, dir+"/udsipc", "listen", "--append", file, address)
				reader.Stderr = io.Discard
				must(t, reader.Start())
				for before := size(); !over && (round >= 6 || size() < before+3000); {
					select {
					case ended = <-done:
						over = true
					case <-time.After(time.Millisecond): // Until it has handled some.
					}
				}
				must(t, reader.Process.Signal(test.signal))
				_ = reader.Wait()
			}
			if ended != nil {
				t.Errorf("the writer ended with %v", ended)
			}
			checkFile(t, file, messages, test.signal == syscall.SIGKILL)
		})
	}
}

// checkFile checks that a file has all numbers in their order. Where some come again, none is left out.
func checkFile(t *testing.T, file string, messages int, repeated bool) {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	last := 0
	for line := range strings.Lines(string(text)) {
		n, err := strconv.Atoi(strings.TrimSpace(line))
		must(t, err)
		if n != last+1 && (n > last || !repeated) {
			t.Fatalf("%d after %d", n, last)
		}
		last = n
	}
	if last != messages {
		t.Errorf("the last line is %d, want %d", last, messages)
	}
}

// TestWriter_Killed: what a Go Reader has of a C writer that is killed is a part from the start, without a gap.
func TestWriter_Killed(t *testing.T) {
	dir, sockets := programs(t)
	for _, mode := range []string{"plain", "session"} {
		for round := range 5 {
			address, got := filepath.Join(sockets, fmt.Sprint(mode, round)), newCounter(1<<30)
			some := make(chan struct{})
			r, err := udsipc.NewDeliveryReader(func(_ context.Context, d *udsipc.Delivery) error {
				n, err := strconv.Atoi(string(d.Data))
				got.add(n, d.Redelivered)
				if n == 100*(round+1) {
					close(some)
				}
				return err
			}, address, udsipc.WithReaderErrorCallback(func(error, string) {}))
			must(t, err)
			must(t, r.Start())
			writer := command(t, dir+"/lines", mode, address)
			input, err := writer.StdinPipe()
			must(t, err)
			must(t, writer.Start())
			fed := make(chan struct{})
			go func() {
				defer close(fed)
				for n := 1; ; n++ {
					if _, err := fmt.Fprintln(input, n); err != nil {
						return
					}
				}
			}()
			<-some
			must(t, writer.Process.Kill())
			_ = writer.Wait()
			<-fed
			must(t, r.Close())
			got.mu.Lock()
			if len(got.wrong) > 0 || len(got.times) != got.last {
				t.Errorf("%s: %d messages, the last one is %d, %v", mode, len(got.times), got.last, got.wrong)
			}
			got.mu.Unlock()
		}
	}
}
