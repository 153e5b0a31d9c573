// SPDX-License-Identifier: Apache-2.0

// Package c_test runs the programs of the C client against the Go library. test.sh compiles them.
package c_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

// programs returns the directory of the programs, and a place for sockets.
func programs(t *testing.T) (dir, sockets string) {
	t.Helper()
	dir = os.Getenv("UDSIPC_TEST_C")
	if dir == "" {
		t.Skip("UDSIPC_TEST_C is set by test.sh")
	}
	sockets, err := os.MkdirTemp("", "c") // Shorter than TempDir: a socket's path is limited.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	return dir, sockets
}

// command returns a command that is killed with the test.
func command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = time.Second
	return cmd
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// freePort returns a TCP address that nobody listens at.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return "tcp://" + l.Addr().String()
}

// TestConform: both ends pass the cases of the protocol.
func TestConform(t *testing.T) {
	dir, sockets := programs(t)
	unix := filepath.Join(sockets, "s")
	tcp, tcp2, tcp3 := freePort(t), freePort(t), freePort(t)
	for name, args := range map[string][]string{
		"reader":             {unix + "1", "--", dir + "/handled", unix + "1"},
		"reader, limit":      {unix + "2", "--", dir + "/handled", unix + "2", "5000"},
		"reader, TCP":        {tcp, "--", dir + "/handled", tcp, "1000000"},
		"writer, plain":      {"--listen", unix + "3", "--", dir + "/lines", "plain", unix + "3"},
		"writer":             {"--listen", "--messages", "2000", unix + "4", "--", dir + "/lines", "session", unix + "4"},
		"writer, TCP":        {"--listen", "--messages", "500", tcp2, "--", dir + "/lines", "session", tcp2},
		"writer, plain, TCP": {"--listen", tcp3, "--", dir + "/lines", "plain", tcp3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if table, err := command(t, dir+"/udsipc", append([]string{"conform"}, args...)...).Output(); err != nil {
				t.Errorf("%v\n%s", err, table)
			}
		})
	}
}

// TestDocs_Commands_Run: the commands of docs/CLIENTS.md work, with the programs of this client.
func TestDocs_Commands_Run(t *testing.T) {
	dir, sockets := programs(t)
	page, err := os.ReadFile("../../docs/CLIENTS.md")
	must(t, err)
	must(t, os.Symlink(dir+"/handled", sockets+"/my-reader"))
	must(t, os.WriteFile(sockets+"/my-writer", []byte("#!/bin/sh\nexec "+dir+"/lines session \"$1\"\n"), 0o700))
	found := 0
	for _, block := range strings.Split(string(page), "```sh\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		for line := range strings.Lines(block) {
			found++
			address := filepath.Join(sockets, fmt.Sprint("s", found))
			script := strings.NewReplacer("/tmp/app.sock", address, "--listen", "--listen --messages 1000").Replace(line)
			t.Run(line, func(t *testing.T) {
				t.Parallel()
				cmd := command(t, "sh", "-c", script)
				cmd.Dir, cmd.Env = sockets, append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
				table, err := cmd.Output()
				if err != nil || !strings.Contains(string(table), " 0 failed") {
					t.Errorf("%v\n%s", err, table)
				}
			})
		}
	}
	if found != 3 {
		t.Errorf("%d commands", found)
	}
}

// TestSizes_BothWays: messages of many sizes, from C to Go and from Go to C.
func TestSizes_BothWays(t *testing.T) {
	dir, sockets := programs(t)
	var list [][]byte
	for size := 1; size < 9<<20; size = size*3 + 1 {
		list = append(list, bytes.Repeat([]byte("m"), size))
	}
	for _, mode := range []string{"plain", "session"} {
		address, at := filepath.Join(sockets, mode), 0
		r, err := udsipc.NewReader(func(data []byte) error {
			if !bytes.Equal(data, list[at]) {
				t.Errorf("%s: got %d bytes, want %d", mode, len(data), len(list[at]))
			}
			at++
			return nil
		}, address)
		must(t, err)
		must(t, r.Start())
		writer := command(t, dir+"/lines", mode, address)
		writer.Stdin = bytes.NewReader(append(bytes.Join(list, []byte("\n")), '\n'))
		must(t, writer.Run())
		must(t, r.Close())
		if at != len(list) {
			t.Errorf("%s: %d messages, want %d", mode, at, len(list))
		}
		reader := command(t, dir+"/handled", address)
		out, err := reader.StdoutPipe()
		must(t, err)
		must(t, reader.Start())
		var opts []udsipc.WriterOption
		if mode == "session" {
			opts = append(opts, udsipc.WithAcknowledgements())
		}
		w, err := udsipc.NewWriter(address, opts...)
		must(t, err)
		must(t, w.Start())
		must(t, w.WriteMessages(list))
		must(t, w.Close())
		lines := bufio.NewScanner(out)
		for _, m := range list {
			want := fmt.Sprintf("%d %d - %s", len(m), len(m)*'m', m[:min(len(m), 40)])
			if !lines.Scan() || lines.Text() != want {
				t.Fatalf("got %q, want %q", lines.Text(), want)
			}
		}
		must(t, reader.Process.Signal(os.Interrupt))
		must(t, reader.Wait())
	}
}

// TestReadme_Programs_Run: the reader prints what the writer sends, and what a Writer in Go sends.
func TestReadme_Programs_Run(t *testing.T) {
	dir, sockets := programs(t)
	address := filepath.Join(sockets, "s")
	reader := command(t, dir+"/readme2", address)
	out, err := reader.StdoutPipe()
	must(t, err)
	must(t, reader.Start())
	must(t, command(t, dir+"/readme1", address, "hello", "again").Run())
	send := command(t, dir+"/udsipc", "send", "--ack", address)
	send.Stdin, send.Stderr = strings.NewReader("from Go\n"), io.Discard
	must(t, send.Run())
	lines := bufio.NewScanner(out)
	for _, want := range []string{"1: hello", "2: again", "1: from Go"} {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("got %q, want %q", lines.Text(), want)
		}
	}
	must(t, reader.Process.Signal(os.Interrupt))
	must(t, reader.Wait())
}

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
					for got.count() < min(before+500, messages) {
						time.Sleep(time.Millisecond) // Until it has handled some.
					}
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
