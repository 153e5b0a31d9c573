// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

// This file runs the program as processes: signals, broken pipes, kills.

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
)

// startProcess starts a process that is killed at the end of the test.
func startProcess(t *testing.T, cmd *exec.Cmd) <-chan error {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ended := make(chan struct{})
	go func() { // Ends with the process.
		done <- cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	return done
}

func init() {
	ipctest.Roles["signals"] = func() error {
		signals := newListenSignals(true)
		for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGHUP, syscall.SIGUSR2} {
			if err := syscall.Kill(os.Getpid(), s); err != nil {
				return err
			}
		}
		<-signals.handOver
		<-signals.reopen
		return nil
	}
}

// TestListenSignals_OneAfterAnother_NoneIsLost: a restart right after a reload is not forgotten.
func TestListenSignals_OneAfterAnother_NoneIsLost(t *testing.T) {
	cmd := ipctest.Process(t, "signals")
	if err := ipctest.Await(t, "both signals", startProcess(t, cmd)); err != nil {
		t.Error(err)
	}
}

// TestProcess_BrokenPipe_EndsBySIGPIPE: as head ends it; its socket file is gone, and nothing is lost.
func TestProcess_BrokenPipe_EndsBySIGPIPE(t *testing.T) {
	address := socket(t)
	cmd := process(t, "listen", address)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	done := startProcess(t, cmd)
	in, lines := io.Pipe()
	sender := start(t, in, "send", "--ack", address)
	fmt.Fprintln(lines, "one")
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "one\n" {
		t.Fatalf("%q, %v", line, err)
	}
	out.Close()
	fmt.Fprintln(lines, "two")
	lines.Close()
	err = ipctest.Await(t, "the end of listen", done)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGPIPE || stderr.Len() > 0 {
		t.Errorf("it ended with %v: %s", err, stderr.String())
	}
	if _, err := os.Stat(address); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its socket: %v", err)
	}
	next := start(t, nil, "listen", address)
	expect(t, sender.wait(t), exitOK, "all of 2 messages")
	// The first one comes again if its acknowledgement was not on its way yet.
	if got := next.stop(t).stdout; strings.TrimPrefix(got, "one\n") != "two\n" {
		t.Errorf("got %q", got)
	}
}

// TestProcess_Signals_DrainThenEnd: after the first signal send waits until its message has arrived, with the second
// it gives up.
func TestProcess_Signals_DrainThenEnd(t *testing.T) {
	for name, test := range map[string]struct {
		arrives bool
		code    int
		text    string
	}{
		"drain": {true, exitOK, "all of 1 message arrived"},
		"end":   {false, exitFailed, "0 of 1 message arrived"},
	} {
		t.Run(name, func(t *testing.T) {
			address := socket(t)
			out, to := io.Pipe()
			startWith(t, &env{stdout: to}, "listen", address)
			t.Cleanup(func() { out.Close() })
			cmd := process(t, "send", "--ack", address)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			done := startProcess(t, cmd)
			fmt.Fprintln(in, "one")
			if _, err := out.Read(make([]byte, 1)); err != nil { // The listener is in the middle of its write.
				t.Fatal(err)
			}
			_ = cmd.Process.Signal(os.Interrupt)
			if test.arrives {
				_, _ = out.Read(make([]byte, 10)) // The rest of the line.
			} else {
				_ = cmd.Process.Signal(syscall.SIGTERM) // Another one: two of a kind may become one.
			}
			_ = ipctest.Await(t, "its end", done)
			if code := cmd.ProcessState.ExitCode(); code != test.code || !strings.Contains(stderr.String(), test.text) {
				t.Errorf("it ended with code %d: %s", code, stderr.String())
			}
		})
	}
}

// TestProcess_KilledListener_LosesNothing: listen --append is killed again and again, also while it rotates. All that
// was acknowledged is in the files, as whole lines.
func TestProcess_KilledListener_LosesNothing(t *testing.T) {
	t.Parallel() // It mostly waits.
	const kills, messages = 8, 40000
	address, dir := socket(t), t.TempDir()
	path := filepath.Join(dir, "f")
	in, lines := io.Pipe()
	sender := start(t, in, "send", "--ack", "--max-backoff=20ms", address)
	go func() { // Ends with the sender.
		w := bufio.NewWriter(lines)
		for i := range messages {
			fmt.Fprintf(w, "%d %s\n", i, strings.Repeat("x", i%300))
		}
		w.Flush()
		lines.Close()
	}()
	for i := range kills {
		cmd := process(t, "listen", "--json", "--append", path, "--rotate-size=500KB", address)
		done := startProcess(t, cmd)
		enough := directorySize(dir) + int64(i)*200_000
		ipctest.Until(t, "it has written something", func() bool { return directorySize(dir) > enough || sender.over() })
		if sender.over() {
			t.Fatalf("it was over before kill %d", i)
		}
		_ = cmd.Process.Kill()
		<-done
	}
	last := start(t, nil, "listen", "--json", "--append", path, "--rotate-size=500KB", address)
	expect(t, sender.wait(t), exitOK, fmt.Sprintf("all of %d messages arrived", messages))
	expect(t, last.stop(t), exitOK, "")
	checkCollected(t, dir, messages)
}

func (r *running) over() bool { return len(r.done) > 0 }

func directorySize(dir string) (size int64) {
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil {
			size += info.Size()
		}
	}
	return size
}

// checkCollected checks that the files have each message, as whole lines; one that is there twice is the same.
func checkCollected(t *testing.T, dir string, messages int) {
	t.Helper()
	type place struct {
		writer string
		seq    uint64
	}
	seen := map[place]string{}
	numbers := map[string]bool{}
	repeated := 0
	for _, file := range contents(t, dir) {
		name, text, _ := strings.Cut(file, "=")
		if strings.HasSuffix(name, ".torn") {
			t.Logf("%d bytes were torn", len(text))
			continue
		}
		for line := range strings.Lines(text) {
			var got deliveryLine
			if err := json.Unmarshal([]byte(line), &got); err != nil || got.Data == nil || !strings.HasSuffix(line, "\n") {
				t.Fatalf("%s has a torn line: %.200q", name, line)
			}
			at := place{got.Writer, got.Seq}
			if before, again := seen[at]; again {
				if repeated++; before != *got.Data || !got.Redelivered {
					t.Errorf("message %v is %q, and again %q, redelivered %v", at, before, *got.Data, got.Redelivered)
				}
			}
			seen[at] = *got.Data
			number, _, _ := strings.Cut(*got.Data, " ")
			numbers[number] = true
		}
	}
	t.Logf("%d messages came again", repeated)
	if len(numbers) != messages || len(seen) != messages {
		t.Errorf("%d messages, %d numbers, want %d", len(numbers), len(seen), messages)
	}
}
