// SPDX-License-Identifier: Apache-2.0

package main

// This file is the process that starts the others, restarts the collector, and compares at the end
// what was written with what was collected.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"text/tabwriter"
	"time"
)

// restarts is how often the collector is restarted on the way.
const restarts = 3

// A run is one performance of the whole.
type run struct {
	executable, socket, source string
	bytes                      int64
	began                      time.Time
	restarted                  int
	told                       time.Time // When progress was shown last.
}

// conduct streams source and prints the table to out.
func conduct(ctx context.Context, source string, out io.Writer) error {
	var err error
	if source == "" {
		if source, err = defaultSource(); err != nil {
			return err
		}
	}
	r := &run{source: source, began: time.Now()}
	if _, r.bytes, err = sourceFiles(source); err != nil {
		return err
	}
	if r.executable, err = os.Executable(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "quickstart")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r.socket = filepath.Join(dir, "collector.sock")

	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // Ends every process that is left.
	sent := make(chan result[written], 1)
	go func() { sent <- r.write(ctx) }() // Ends with the writers.
	got, want, err := r.collect(ctx, sent)
	if err != nil {
		return err
	}
	if onTerminal() {
		fmt.Fprintf(os.Stderr, "\r%60s\r", "")
	}
	return r.table(out, want, got)
}

// A result is what a goroutine has to say.
type result[T any] struct {
	value T
	err   error
}

// role makes the command of one of the processes. It is killed when ctx ends.
func (r *run) role(ctx context.Context, role string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, r.executable, args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

// write runs the writer processes and adds up what they have written.
func (r *run) write(ctx context.Context) (sum result[written]) {
	var outputs [writers]bytes.Buffer
	var cmds [writers]*exec.Cmd
	for i := range cmds {
		cmds[i] = r.role(ctx, roleWriter, r.socket, fmt.Sprint(i), r.source)
		cmds[i].Stdout = &outputs[i]
		in, err := cmds[i].StdinPipe() // Ends with this process, and the writer with it.
		if err != nil {
			return result[written]{err: err}
		}
		defer in.Close()
		if err := cmds[i].Start(); err != nil {
			return result[written]{err: err}
		}
	}
	for i, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			return result[written]{err: fmt.Errorf("writer %d: %w", i, err)}
		}
		var one written
		if err := json.Unmarshal(outputs[i].Bytes(), &one); err != nil {
			return result[written]{err: err}
		}
		sum.value.merge(one.tally)
		sum.value.Writes += one.Writes
		sum.value.Dropped += one.Dropped
	}
	return sum
}

// collect runs one collector process after another until the writers are done.
func (r *run) collect(ctx context.Context, sent <-chan result[written]) (got collected, want written, err error) {
	for {
		var all *written
		got, all, err = r.collectOnce(ctx, got, sent)
		switch {
		case err != nil:
			return got, want, err
		case all != nil && r.restarted > 0:
			return got, *all, nil
		case all != nil: // The text was short: one restart there shall be all the same.
			done := make(chan result[written], 1)
			done <- result[written]{value: *all}
			sent = done
		}
		r.restarted++
	}
}

// collectOnce runs a collector from state on, until its share of the text is there or the writers are
// done; then it says what they have written.
func (r *run) collectOnce(ctx context.Context, state collected,
	sent <-chan result[written]) (collected, *written, error) {
	cmd := r.role(ctx, roleCollector, r.socket)
	in, err := cmd.StdinPipe()
	if err != nil {
		return state, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return state, nil, err
	}
	if err := cmd.Start(); err != nil {
		return state, nil, err
	}
	if err := json.NewEncoder(in).Encode(state); err != nil {
		return state, nil, err
	}
	share := uint64(r.bytes)
	if r.restarted < restarts {
		share = share * uint64(r.restarted+1) / (restarts + 1)
	}
	var all *written
	lines := bufio.NewReader(out)
	for stopped := false; ; {
		if err := json.NewDecoder(lineOf(lines)).Decode(&state); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return state, nil, err
		}
		r.progress(state)
		select {
		case end := <-sent:
			if end.err != nil {
				return state, nil, end.err
			}
			all = &end.value
		default:
		}
		if !stopped && (all != nil || r.restarted < restarts && state.Bytes >= share) {
			stopped = true
			if err := stopGracefully(cmd.Process, in); err != nil {
				return state, nil, err
			}
		}
	}
	return state, all, cmd.Wait()
}

// stopGracefully tells a collector to stop, as a service manager does; where there are no signals, by
// the end of its input.
func stopGracefully(process *os.Process, in io.Closer) error {
	if runtime.GOOS == "windows" {
		return in.Close()
	}
	return process.Signal(syscall.SIGTERM)
}

// lineOf is a reader of the next line alone.
func lineOf(lines *bufio.Reader) io.Reader {
	line, _ := lines.ReadBytes('\n') // No line is the end of the process.
	return bytes.NewReader(line)
}

// progress shows how far the run is: on a terminal in place, otherwise once a second.
func (r *run) progress(state collected) {
	form, interval := "%d lines, %d restarts\n", time.Second
	if onTerminal() {
		form, interval = "\r%d lines, %d restarts ", 50*time.Millisecond
	}
	if now := time.Now(); now.Sub(r.told) >= interval {
		r.told = now
		fmt.Fprintf(os.Stderr, form, state.Lines, r.restarted)
	}
}

// onTerminal says whether progress can be shown in place.
func onTerminal() bool {
	info, err := os.Stderr.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// table prints what happened, and says whether it was right.
func (r *run) table(out io.Writer, want written, got collected) error {
	seconds := time.Since(r.began).Seconds()
	err := compare(want, got)
	verdict := "agrees at both ends"
	if err != nil {
		verdict = "DIFFERS"
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "lines\t%d\n", got.Lines)
	fmt.Fprintf(t, "bytes\t%d\n", got.Bytes)
	fmt.Fprintf(t, "seconds\t%.2f\n", seconds)
	fmt.Fprintf(t, "messages a second\t%.0f\n", float64(got.Lines)/seconds)
	fmt.Fprintf(t, "system calls a message\t%.4f\n", float64(want.Writes+got.Reads)/max(1, float64(got.Lines)))
	fmt.Fprintf(t, "dropped\t%d\n", want.Dropped)
	fmt.Fprintf(t, "restarts\t%d\n", r.restarted)
	fmt.Fprintf(t, "checksum\t%016x, %s\n", got.Sum, verdict)
	return errors.Join(err, t.Flush())
}

// compare says what is wrong with what was collected.
func compare(want written, got collected) error {
	switch {
	case len(got.Faults) > 0:
		return fmt.Errorf("out of order: %v", got.Faults)
	case want.Dropped > 0:
		return fmt.Errorf("%d messages were dropped", want.Dropped)
	case want.tally != got.tally:
		return fmt.Errorf("written %+v, collected %+v", want.tally, got.tally)
	}
	return nil
}
