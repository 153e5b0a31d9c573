// SPDX-License-Identifier: Apache-2.0

package main

// This file starts the processes, kills them, and starts them again.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"
)

// A run is one performance of the whole.
type run struct {
	executable, dir, socket string
	kills                   int                  // Of each process.
	pause                   func() time.Duration // How long a process streams before it is killed.
	began                   time.Time

	writers, readers *series
	accepted         []uint64      // Of each start of the writer: the last number that it printed.
	written          atomic.Uint64 // All of them together.
	handled, known   atomic.Uint64 // New messages, and those that came again, as the reader printed.
}

// A series is one process after another in the same role.
type series struct {
	role     string
	onLine   func(start int, line string) error // Called for what a process prints.
	killed   atomic.Uint64
	last     chan struct{} // Closed when the last process streams.
	finish   chan struct{} // Closed when it may end.
	finished chan error    // One slot: the end of the last one, or an error.
}

func newSeries(role string, onLine func(start int, line string) error) *series {
	return &series{role: role, onLine: onLine, last: make(chan struct{}), finish: make(chan struct{}),
		finished: make(chan error, 1)}
}

// conduct kills writers and readers while they stream. Then the last writer delivers what is left.
func (r *run) conduct(ctx context.Context, out io.Writer) error {
	r.accepted = make([]uint64, r.kills+1)
	r.writers = newSeries(roleWriter, func(start int, line string) error {
		r.written.Add(1)
		_, err := fmt.Sscan(line, &r.accepted[start])
		return err
	})
	r.readers = newSeries(roleReader, func(_ int, line string) error {
		var added, known uint64
		_, err := fmt.Sscan(line, &added, &known)
		r.handled.Add(added)
		r.known.Add(known)
		return err
	})
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // Kills the processes that are left.
	for _, s := range []*series{r.readers, r.writers} {
		wg.Go(func() { s.finished <- r.lives(ctx, s) })
	}
	wg.Go(func() { r.showProgress(ctx, out) })
	for _, s := range []*series{r.readers, r.writers} {
		select {
		case <-s.last:
		case err := <-r.readers.finished:
			return err
		case err := <-r.writers.finished:
			return err
		}
	}
	close(r.writers.finish)
	if err := <-r.writers.finished; err != nil {
		return err
	}
	close(r.readers.finish) // The reader has handled all.
	return <-r.readers.finished
}

// lives runs one process after another, and kills all but the last one.
func (r *run) lives(ctx context.Context, s *series) error {
	for start := range r.kills + 1 {
		if err := r.live(ctx, s, start); err != nil {
			return fmt.Errorf("process %d as %s: %w", start+1, s.role, err)
		}
	}
	return nil
}

// live runs one process.
func (r *run) live(ctx context.Context, s *series, start int) error {
	cmd := exec.CommandContext(ctx, r.executable, r.dir, r.socket, fmt.Sprint(start))
	cmd.Env = append(os.Environ(), roleVariable+"="+s.role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe() // Its end is that of the process.
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	streams, read := make(chan struct{}), make(chan error, 1)
	go func() { read <- readLines(out, start, s, streams) }() // Ends with the process.
	select {
	case <-streams:
	case err := <-read:
		return errors.Join(err, cmd.Wait(), errors.New("it has ended by itself"))
	}
	if start < r.kills {
		return r.kill(ctx, cmd, s, read)
	}
	close(s.last)
	select {
	case <-s.finish:
	case <-ctx.Done():
	}
	in.Close()
	return errors.Join(<-read, cmd.Wait())
}

// kill kills a process after a pause.
func (r *run) kill(ctx context.Context, cmd *exec.Cmd, s *series, read <-chan error) error {
	select {
	case <-time.After(r.pause()):
	case <-ctx.Done():
	}
	err := cmd.Process.Kill() // SIGKILL.
	s.killed.Add(1)
	return errors.Join(err, <-read, endOfKilled(cmd.Wait()), ctx.Err())
}

// endOfKilled expects that a process was killed.
func endOfKilled(err error) error {
	var end *exec.ExitError
	if errors.As(err, &end) && end.ExitCode() == -1 {
		return nil
	}
	return fmt.Errorf("it should have been killed: %v", err)
}

// readLines reads what a process prints, and closes streams at the first line.
func readLines(out io.Reader, start int, s *series, streams chan<- struct{}) error {
	lines := bufio.NewScanner(out)
	for n := 0; lines.Scan(); n++ {
		if err := s.onLine(start, lines.Text()); err != nil {
			return err
		}
		if n == 0 {
			close(streams)
		}
	}
	return lines.Err()
}

// showProgress prints a line each second.
func (r *run) showProgress(ctx context.Context, out io.Writer) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			fmt.Fprintf(out, "%3.0f s: writer killed %2d times, reader %2d times; %8d messages accepted, %8d handled\n",
				time.Since(r.began).Seconds(), r.writers.killed.Load(), r.readers.killed.Load(),
				r.written.Load(), r.handled.Load())
		case <-ctx.Done():
			return
		}
	}
}
