// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/udsipc/udsipc/benchmarks/contender"
)

// A column is a situation in which each contender has a cell.
type column struct {
	title string
	kind  string
	size  int
	load  float64
}

func throughputColumns() []column {
	var all []column
	for _, size := range throughputSizes {
		all = append(all, column{title: sizeName(size), kind: throughput, size: size})
	}
	return all
}

func latencyColumns() []column {
	all := []column{{title: "lone", kind: lone, size: loneSize}}
	for _, load := range loads {
		all = append(all, column{title: fmt.Sprintf("%.0f %%", load*100), kind: loaded, size: loadedSize, load: load})
	}
	return all
}

func sizeName(size int) string {
	switch {
	case size >= 1<<20:
		return fmt.Sprintf("%d MiB", size>>20)
	case size >= 1<<10:
		return fmt.Sprintf("%d KiB", size>>10)
	}
	return fmt.Sprintf("%d B", size)
}

// find returns the result of a contender in a column.
func (c *comparison) find(placement, name string, in column) (result, bool) {
	for _, r := range c.Results {
		if r.Placement == placement && r.Contender == name && (column{in.title, r.Kind, r.Size, r.Load}) == in {
			return r, true
		}
	}
	return result{}, false
}

// contenders returns the names of those that have a result, in the order of contender.All.
func (c *comparison) contenders() []string {
	var names []string
	for _, each := range contender.All {
		for _, r := range c.Results {
			if r.Contender == each.Name {
				names = append(names, each.Name)
				break
			}
		}
	}
	return names
}

// placements returns the names of the placements, in the order in which they were measured.
func (c *comparison) placements() []string {
	var names []string
	for _, r := range c.Results {
		if len(names) == 0 || names[len(names)-1] != r.Placement {
			names = append(names, r.Placement)
		}
	}
	return names
}

// write prints all tables in Markdown.
func (c *comparison) write(w io.Writer) {
	fmt.Fprintf(w, "Between two processes: %s, %s, %d CPUs; medians of %d rounds, %.0f s.\n",
		c.Go, c.System, c.Processors, c.Rounds, c.Seconds)
	for _, each := range contender.All {
		if reason := c.Missing[each.Name]; reason != "" {
			fmt.Fprintf(w, "%s is missing: %s.\n", each.Name, reason)
		}
	}
	for _, on := range c.placements() {
		c.writePlacement(w, on)
	}
}

func (c *comparison) writePlacement(w io.Writer, on string) {
	fmt.Fprintf(w, "\n### %s\n", on)
	sizes := throughputColumns()
	title := "Time, ns a message; in brackets, the first row's rate in multiples of this one"
	c.table(w, on, title, sizes, func(r, first result) string {
		text := fmt.Sprintf("%.0f", r.Median.NsPerMessage)
		if first.Median.NsPerMessage > 0 { // It has a result in this column.
			text += fmt.Sprintf(" (%.2f)", r.Median.NsPerMessage/first.Median.NsPerMessage)
		}
		return text
	})
	c.table(w, on, "Processor seconds a million messages, both ends", sizes, func(r, _ result) string {
		return fmt.Sprintf("%.3g", r.Median.ProcessorPerMillion)
	})
	c.table(w, on, "Largest resident set, sender + receiver, MiB", sizes, func(r, _ result) string {
		return fmt.Sprintf("%.0f + %.0f", r.Median.SenderMiB, r.Median.ReceiverMiB)
	})
	title = fmt.Sprintf("One-way latency, µs, p50 / p99 / p99.9: a lone message of %s, %d a second; then %s at "+
		"a share of the contender's own maximum (* the sender did not keep that rate)",
		sizeName(loneSize), loneRate, sizeName(loadedSize))
	c.table(w, on, title, latencyColumns(), latencyText)
}

func latencyText(r, _ result) string {
	mark := ""
	if r.Median.RateKept < 0.97 {
		mark = " *"
	}
	return fmt.Sprintf("%.1f / %.0f / %.0f%s", r.Median.P50, r.Median.P99, r.Median.P999, mark)
}

func (c *comparison) table(w io.Writer, on, title string, columns []column, text func(r, first result) string) {
	fmt.Fprintf(w, "\n%s:\n\n| |", title)
	for _, col := range columns {
		fmt.Fprintf(w, " %s |", col.title)
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("--:|", len(columns)))
	names := c.contenders()
	for _, name := range names {
		fmt.Fprintf(w, "| %s |", name)
		for _, col := range columns {
			first, _ := c.find(on, names[0], col)
			switch r, ok := c.find(on, name, col); {
			case !ok:
				fmt.Fprint(w, " |")
			case r.Failed != "":
				fmt.Fprint(w, " failed |")
			default:
				fmt.Fprintf(w, " %s |", text(r, first))
			}
		}
		fmt.Fprintln(w)
	}
}
