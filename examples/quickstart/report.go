// SPDX-License-Identifier: Apache-2.0

package main

// This file shows what happens, and reports the result.

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// A display shows what happens: sentences, and below them, on a terminal, a bar that is redrawn.
// Elsewhere progress is a line each second.
type display struct {
	mu       sync.Mutex
	out      io.Writer
	terminal bool
	shownAt  time.Time // When progress was shown last.
	width    int       // Of the bar that is on the terminal.
}

// newDisplay returns the display of a file that may be a terminal.
func newDisplay(file *os.File) *display {
	info, err := file.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	return &display{out: file, terminal: terminal}
}

// say shows a sentence.
func (d *display) say(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.clearLocked()
	fmt.Fprintf(d.out, format+"\n", args...)
}

// barWidth is that of the bar alone, in characters.
const barWidth = 40

// progress shows how much is done, unless it did so just before.
func (d *display) progress(done, all, lines uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	interval := time.Second
	if d.terminal {
		interval = 50 * time.Millisecond
	}
	now := time.Now()
	if now.Sub(d.shownAt) < interval {
		return
	}
	d.shownAt = now
	done, all = min(done, all), max(all, 1)
	text := fmt.Sprintf("%3d %%  %d lines", done*100/all, lines)
	if !d.terminal {
		fmt.Fprintln(d.out, text)
		return
	}
	full := int(done * barWidth / all)
	text = "[" + strings.Repeat("#", full) + strings.Repeat(".", barWidth-full) + "] " + text
	fmt.Fprint(d.out, "\r"+text)
	d.width = len(text)
}

// end removes the bar.
func (d *display) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.clearLocked()
}

func (d *display) clearLocked() {
	if d.width > 0 {
		fmt.Fprint(d.out, "\r"+strings.Repeat(" ", d.width)+"\r")
		d.width = 0
	}
}

// report prints what happened, and whether it was right.
func (r *run) report(out io.Writer, want written, got collected) error {
	seconds := time.Since(r.began).Seconds()
	err := compare(want, got)
	same := "the same at both ends"
	if want.Sum != got.Sum {
		same = "NOT the same at both ends"
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "lines\t%d\n", got.Lines)
	fmt.Fprintf(t, "bytes\t%d\n", got.Bytes)
	fmt.Fprintf(t, "seconds\t%.2f\n", seconds)
	fmt.Fprintf(t, "messages a second\t%.0f\n", float64(got.Lines)/seconds)
	fmt.Fprintf(t, "system calls a message\t%.4f\n", float64(want.Writes+got.Reads)/max(1, float64(got.Lines)))
	fmt.Fprintf(t, "dropped\t%d\n", want.Dropped)
	fmt.Fprintf(t, "restarts of the collector\t%d\n", r.restarted)
	fmt.Fprintf(t, "checksum of all lines\t%016x, %s\n", got.Sum, same)
	if err := errors.Join(err, t.Flush()); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "\nEvery line arrived once, in order.")
	return err
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
