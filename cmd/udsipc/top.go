// SPDX-License-Identifier: Apache-2.0

package main

// This file is the command top: what it samples, how often, and where it shows it.

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"
)

var topCommand = command{
	name:    "top",
	summary: "show what running Readers and Writers do, live",
	help: `It shows each Reader, Writer, spool and server that publishes its metrics
(option WithPublishedMetrics): messages and bytes per second, what is queued
and how old it is, what was dropped, errors, connections, and the time until
an acknowledgement (half of the messages took P50 at most).

It finds them without configuration: in $XDG_RUNTIME_DIR/udsipc and
/tmp/udsipc-UID, and for root those of all users. --directory looks elsewhere.

On a terminal it redraws a table, and these keys work: q ends, h shows the
keys, w shows the peers (who), r reverses the order; m, b, u, o, d, e, c, l, p
and n sort by messages, bytes, queue, oldest, drops, errors, connections,
latency, process and name. Elsewhere it writes a table for each interval, or
with --json a line for each source. The first table has the average since the
start of each source.`,
	examples: []example{
		{"udsipc top", "a table that is redrawn every two seconds"},
		{"udsipc top --once", "one table, with the averages since the start"},
		{"udsipc top --json --interval 10s >> metrics.jsonl", "a record every ten seconds"},
		{"udsipc top --once --sort queue --who", "the longest queue first, with all peers"},
	},
	exits: []exit{
		{exitOK, "it was shown until you ended it"},
		{exitFailed, "with --once: nobody publishes metrics; or writing failed"},
		{exitUsage, "the arguments cannot be; nothing was done"},
	},
	setup: func(flags *flag.FlagSet) runner {
		t := &top{sampler: newSampler(), sort: topColumns[0].name}
		flags.DurationVar(&t.interval, "interval", 2*time.Second, "the time `DURATION` between two tables, 100ms at least")
		flags.BoolVar(&t.once, "once", false, "write one table and end")
		flags.BoolVar(&t.json, "json", false, "write JSON: an object in a line for each source")
		flags.BoolVar(&t.who, "who", false, "show the peers of each source as well")
		flags.Func("sort", "sort by a `COLUMN`: "+strings.Join(sortNames(), ", "), t.setSort)
		flags.Func("directory", "look in this `DIRECTORY` alone; may be repeated", func(path string) error {
			t.sampler.folders = append(t.sampler.folders, path)
			return nil
		})
		return t.run
	},
}

// minInterval is the shortest time between two tables.
const minInterval = 100 * time.Millisecond

// A top is one run of the command.
type top struct {
	sampler  *sampler
	interval time.Duration
	once     bool
	json     bool

	// What the keys change.
	who     bool
	sort    string
	reverse bool
	help    bool
}

func (t *top) setSort(name string) error {
	for _, c := range topColumns {
		if c.key != 0 && c.name == name {
			t.sort = name
			return nil
		}
	}
	return fmt.Errorf("want one of %s", strings.Join(sortNames(), ", "))
}

func (t *top) run(ctx context.Context, e *env) int {
	if t.interval < minInterval {
		return e.usage(fmt.Errorf("--interval %v: want %v or more", t.interval, minInterval))
	}
	defer t.sampler.close()
	if !t.once && !t.json && e.isTerminal(e.stdout) {
		return t.onTerminal(ctx, e)
	}
	ticker := time.NewTicker(t.interval)
	defer ticker.Stop()
	for {
		s := t.sampler.sample(ctx, t.patience())
		if ctx.Err() != nil {
			return exitOK
		}
		if err := t.write(e.stdout, s); err != nil {
			return e.failOutput(err)
		}
		if t.once {
			return t.onceCode(e, s)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return exitOK
		}
	}
}

// patience returns how long a source may take for its answer.
func (t *top) patience() time.Duration { return min(t.interval, time.Second) }

// onceCode returns the exit code of a single table.
func (t *top) onceCode(e *env, s *sample) int {
	if len(s.rows) > 0 {
		return exitOK
	}
	e.logf("nobody publishes metrics in %s (option WithPublishedMetrics, or --publish of a command)", s.where())
	for _, note := range s.notes {
		e.logf("%s", note)
	}
	return exitFailed
}

// write writes a sample as lines.
func (t *top) write(w io.Writer, s *sample) error {
	t.sortRows(s.rows)
	if t.json {
		return writeJSON(w, s.rows)
	}
	if len(s.rows) == 0 && t.once {
		return nil
	}
	table := strings.Join(t.lines(s, wideTable), "\n")
	if !t.once {
		table += "\n"
	}
	_, err := fmt.Fprintln(w, table)
	return err
}

// writeJSON writes a line for each source: its snapshot, the path of its socket, and the rates of its counters.
func writeJSON(w io.Writer, rows []*topRow) error {
	encoder := json.NewEncoder(w)
	var errs []error
	for _, row := range rows {
		if row.err != nil {
			errs = append(errs, encoder.Encode(map[string]any{"path": row.endpoint.Path, "error": row.err.Error()}))
			continue
		}
		errs = append(errs, encoder.Encode(struct {
			Path string `json:"path"`
			*snapshotOf
			Rates map[string]float64 `json:"rates"` // Per second.
		}{row.endpoint.Path, row.now, row.rates()}))
	}
	return errors.Join(errs...)
}

// failOutput reports an error of the standard output and returns the exit code for it.
func (e *env) failOutput(err error) int {
	if errors.Is(err, syscall.EPIPE) {
		e.brokenPipe = true
		return exitFailed
	}
	return e.fail(err)
}
