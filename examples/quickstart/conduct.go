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
	"strings"
	"syscall"
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
	pid                        int // That of the last collector.
	show                       *display
}

// conduct streams source, shows what happens, and prints the result to out.
func conduct(ctx context.Context, source string, out io.Writer, show *display) error {
	if source == "" {
		var err error
		if source, err = defaultSource(); err != nil {
			return err
		}
	}
	r := &run{source: source, began: time.Now(), show: show}
	files, bytes, err := sourceFiles(source)
	if err != nil {
		return err
	}
	r.bytes = bytes
	if r.executable, err = os.Executable(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "quickstart")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r.socket = filepath.Join(dir, "collector.sock")
	show.say("%d writer processes send each line of %s (%d files, %.1f MB)", writers, source, len(files),
		float64(bytes)/1e6)
	show.say("as a message to one collector process, which is restarted %d times on the way.", restarts)
	show.say("socket     %s", r.socket)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // Ends every process that is left.
	sent := make(chan result[written], 1)
	go func() { sent <- r.write(ctx) }() // Ends with the writers.
	got, want, err := r.collect(ctx, sent)
	if err != nil {
		return err
	}
	show.end()
	return r.report(out, want, got)
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
	var pids []string
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
		pids = append(pids, fmt.Sprint(cmds[i].Process.Pid))
	}
	r.show.say("writers    pids %s", strings.Join(pids, ", "))
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
	r.tellCollector(cmd.Process.Pid, state)
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
		r.show.progress(state.Bytes, uint64(r.bytes), state.Lines)
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

// tellCollector tells which process collects from now on.
func (r *run) tellCollector(pid int, state collected) {
	if r.restarted == 0 {
		r.show.say("collector  pid %d", pid)
	} else {
		r.show.say("collector  pid %d stopped after %d lines; restart %d: pid %d goes on", r.pid, state.Lines, r.restarted,
			pid)
	}
	r.pid = pid
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
