// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

var benchCommand = command{
	name:    "bench",
	summary: "measure how fast this machine is, beside the bare socket",
	help: `It sends messages from a process of its own to this one: over the bare socket,
with a write for each message and with a buffer of 64 KiB, and over the library,
plain and acknowledged. A row has the median of the rounds, in which all of them
take their turns; the rate counts until the last message is read.

The bare socket has no queue, no reconnect and no bounds between messages: it is
what the kernel can do. Other programs that run at the time change the figures.`,
	examples: []example{
		{"udsipc bench --size 1KiB --connections 8", "eight writers with messages of 1 KiB"},
		{"udsipc bench --json --time 5s", "long enough to compare, for a program"},
	},
	exits: []exit{
		{exitOK, "all rows are measured, and all messages have arrived"},
		{exitFailed, "it was interrupted, or a row failed"},
		{exitUsage, "the arguments cannot be; nothing was measured"},
	},
	setup: func(flags *flag.FlagSet) runner {
		f := &benchFlags{size: 128}
		f.define(flags)
		flags.IntVar(&f.rounds, "rounds", 3, "the `number` of times that each row is measured")
		flags.BoolVar(&f.json, "json", false, "write the table as JSON")
		return f.run
	},
}

// benchFlags has the flags of bench, and of its process that sends.
type benchFlags struct {
	size        byteSize
	producers   int
	connections int
	time        time.Duration
	address     string
	rounds      int
	json        bool
}

func (f *benchFlags) define(flags *flag.FlagSet) {
	flags.Var(&f.size, "size", "the `size` of a message")
	flags.IntVar(&f.producers, "producers", 1, "the `number` of goroutines that send on each connection")
	flags.IntVar(&f.connections, "connections", 1, "the `number` of connections, each with a Writer of its own")
	flags.DurationVar(&f.time, "time", time.Second, "the `duration` of sending, for each row of a round")
	flags.StringVar(&f.address, "address", "", "a free `address`, such as tcp://127.0.0.1:9999; without it, a "+
		"socket in a temporary directory")
}

func (f *benchFlags) check() error {
	switch {
	case f.size < 1 || f.size > 1<<30:
		return errors.New("--size: want 1 to 1GiB")
	case f.producers < 1 || f.producers > 1<<16 || f.connections < 1 || f.connections > 1<<14:
		return errors.New("--producers and --connections: want 1 or more, at most 65536 and 16384")
	case f.time <= 0 || f.rounds < 1:
		return errors.New("--time and --rounds: want more than 0")
	}
	return nil
}

// A benchRow is a row of the table.
type benchRow struct {
	Name     string  `json:"name"`
	Messages float64 `json:"messages_per_second"` // The median.
	Bytes    float64 `json:"bytes_per_second"`
	Share    float64 `json:"share_of_bare"`

	kind  string
	rates []float64
}

// benchRows returns what is measured; the first row is what the others are compared with.
func benchRows() []*benchRow {
	return []*benchRow{
		{Name: "bare socket, a write each", kind: "bare"},
		{Name: "bare socket, 64 KiB buffer", kind: "buffer"},
		{Name: "udsipc, plain", kind: "plain"},
		{Name: "udsipc, acknowledged", kind: "ack"},
	}
}

func (f *benchFlags) run(ctx context.Context, e *env) int {
	if err := f.check(); err != nil {
		return e.usage(err)
	}
	console, rows := e.console(), benchRows()
	for round := range f.rounds {
		for _, row := range rows {
			if console.redraw {
				console.progress(fmt.Sprintf("round %d of %d: %s%s", round+1, f.rounds, row.Name, row.soFar()))
			}
			rate, err := f.measure(ctx, e, row.kind)
			if err != nil {
				console.erase()
				return e.fail(fmt.Errorf("%s: %w", row.Name, err))
			}
			row.rates = append(row.rates, rate)
		}
	}
	console.erase()
	for _, row := range rows {
		slices.Sort(row.rates)
		row.Messages = row.rates[len(row.rates)/2]
		row.Bytes = row.Messages * float64(f.size)
		row.Share = row.Messages / rows[0].Messages
	}
	if err := f.write(e.stdout, rows); err != nil {
		return e.callResult(outputError{err})
	}
	return exitOK
}

// soFar returns the last rate of the row.
func (r *benchRow) soFar() string {
	if len(r.rates) == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s messages/s before)", formatCount(r.rates[len(r.rates)-1]))
}

// write writes the table.
func (f *benchFlags) write(to io.Writer, rows []*benchRow) error {
	if f.json {
		encoder := json.NewEncoder(to)
		encoder.SetIndent("", "  ")
		return encoder.Encode(struct {
			Size        byteSize    `json:"size"`
			Producers   int         `json:"producers"`
			Connections int         `json:"connections"`
			CPUs        int         `json:"cpus"`
			Go          string      `json:"go"`
			Rows        []*benchRow `json:"rows"`
		}{f.size, f.producers, f.connections, runtime.NumCPU(), runtime.Version(), rows})
	}
	table := tabwriter.NewWriter(to, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "messages of %s, %s with %s each, %s, %s/%s\n", formatSize(uint64(f.size)),
		plural(uint64(f.connections), "connection"), plural(uint64(f.producers), "producer"),
		plural(uint64(runtime.NumCPU()), "CPU"), runtime.GOOS, runtime.GOARCH)
	fmt.Fprint(table, "\tmessages/s\tbytes/s\tof the bare socket\t\n")
	for _, row := range rows {
		fmt.Fprintf(table, "%s\t%s\t%s\t%.2f\t\n", pad(row.Name), formatCount(row.Messages),
			formatBytes(row.Bytes), row.Share)
	}
	return table.Flush()
}

// pad returns a name of a row, so that it is aligned to the left.
func pad(name string) string { return fmt.Sprintf("%-26s", name) }
