// SPDX-License-Identifier: Apache-2.0

package main

// This file is the table of top: its columns, their order, and the lines.

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A topColumn is a column of the table.
type topColumn struct {
	name    string // Of --sort; of those with a key.
	title   string
	key     byte // Sorts by the column; 0: nothing does.
	width   int
	left    bool // Aligned to the left.
	drop    int  // The higher, the earlier it is left out of a narrow table; 0: never.
	value   func(r *topRow) string
	compare func(a, b *topRow) int // Which row is first.
}

// topColumns are the columns from left to right, after the one that is sorted by first.
var topColumns = []topColumn{
	{"messages", "MSG/S", 'm', 8, false, 0, func(r *topRow) string { return formatCount(r.messages) },
		func(a, b *topRow) int { return cmp.Compare(b.messages, a.messages) }},
	{"bytes", "BYTES/S", 'b', 9, false, 4, func(r *topRow) string { return formatBytes(r.bytes) },
		func(a, b *topRow) int { return cmp.Compare(b.bytes, a.bytes) }},
	{"queue", "QUEUE", 'u', 7, false, 0, (*topRow).queueText,
		func(a, b *topRow) int { return cmp.Compare(b.queue, a.queue) }},
	{"", "HELD", 0, 8, false, 7, func(r *topRow) string { return formatBytes(float64(r.queueBytes)) }, nil},
	{"oldest", "OLDEST", 'o', 7, false, 9, func(r *topRow) string { return dash(r.age > 0, shortDuration(r.age)) },
		func(a, b *topRow) int { return cmp.Compare(b.age, a.age) }},
	{"drops", "DROPS", 'd', 7, false, 0, func(r *topRow) string { return formatCount(float64(r.drops)) },
		func(a, b *topRow) int { return cmp.Compare(b.drops, a.drops) }},
	{"errors", "ERRORS", 'e', 7, false, 8, func(r *topRow) string { return formatCount(float64(r.errors)) },
		func(a, b *topRow) int { return cmp.Compare(b.errors, a.errors) }},
	{"connections", "CONN", 'c', 5, false, 1, func(r *topRow) string { return strconv.FormatUint(r.connections, 10) },
		func(a, b *topRow) int { return cmp.Compare(b.connections, a.connections) }},
	{"", "P50", 0, 7, false, 6, func(r *topRow) string { return dash(r.p50 >= 0, shortDuration(r.p50)) }, nil},
	{"latency", "P99", 'l', 7, false, 5, func(r *topRow) string { return dash(r.p99 >= 0, shortDuration(r.p99)) },
		func(a, b *topRow) int { return cmp.Compare(b.p99, a.p99) }},
	{"process", "PID", 'p', 7, false, 2, func(r *topRow) string { return strconv.Itoa(r.endpoint.PID) },
		func(a, b *topRow) int { return cmp.Compare(a.endpoint.PID, b.endpoint.PID) }},
	{"", "PROGRAM", 0, 12, true, 3, func(r *topRow) string { return r.program }, nil},
	{"", "KIND", 0, 13, true, 0, func(r *topRow) string { return r.kind }, nil},
	{"name", "NAME", 'n', 12, true, 0, func(r *topRow) string { return r.name },
		func(a, b *topRow) int { return cmp.Compare(a.name, b.name) }},
	{"", "ADDRESS", 0, 0, true, 0, func(r *topRow) string { return r.address }, nil},
}

const (
	wideTable  = math.MaxInt // The width of a table that is not cut.
	minAddress = 12          // Columns of the address before others are left out.
)

// sortNames returns what a table can be sorted by.
func sortNames() (names []string) {
	for _, c := range topColumns {
		if c.key != 0 {
			names = append(names, c.name)
		}
	}
	return names
}

func (r *topRow) queueText() string { return dash(r.hasQueue, formatCount(float64(r.queue))) }

// dash returns text if there is one to show.
func dash(shown bool, text string) string {
	if !shown {
		return "-"
	}
	return text
}

// shortDuration returns a duration with three digits.
func shortDuration(d time.Duration) string {
	step := time.Duration(1)
	for ; d/step >= 1000 && step < time.Second; step *= 10 {
	}
	return d.Round(step).String()
}

// sortRows sorts by the chosen column, then by process and socket.
func (t *top) sortRows(rows []*topRow) {
	column := topColumns[slices.IndexFunc(topColumns, func(c topColumn) bool { return c.key != 0 && c.name == t.sort })]
	slices.SortFunc(rows, func(a, b *topRow) int {
		order := column.compare(a, b)
		if t.reverse {
			order = -order
		}
		return cmp.Or(order, cmp.Compare(a.endpoint.PID, b.endpoint.PID), cmp.Compare(a.endpoint.Path, b.endpoint.Path))
	})
}

// columnsFor returns the columns that fit in a width. Those of texts are as wide as what is in them, up to their width.
func columnsFor(rows []*topRow, width int) []topColumn {
	list := slices.Clone(topColumns)
	for i, c := range list {
		if !c.left || c.width == 0 {
			continue
		}
		used := len(c.title)
		for _, r := range rows {
			if r.now != nil {
				used = max(used, len([]rune(c.value(r))))
			}
		}
		list[i].width = min(c.width, used)
	}
	for {
		sum, worst := minAddress, -1
		for i, c := range list {
			sum += c.width + 1
			if c.drop > 0 && (worst < 0 || c.drop > list[worst].drop) {
				worst = i
			}
		}
		if sum <= width || worst < 0 {
			return list
		}
		list = slices.Delete(list, worst, worst+1)
	}
}

// lines returns the table: a summary, what is wrong, the heads, and the rows.
func (t *top) lines(s *sample, width int) []string {
	list := append([]string{summary(s)}, s.notes...)
	columns := columnsFor(s.rows, width)
	list = append(list, tableLine(columns, func(c topColumn) string { return c.title }))
	for _, r := range s.rows {
		if r.now == nil {
			list = append(list, fmt.Sprintf("%d %s: %s", r.endpoint.PID, printable(r.endpoint.Name), r.failure()))
			continue
		}
		list = append(list, tableLine(columns, func(c topColumn) string { return c.value(r) }))
		if t.who {
			list = append(list, r.peerLines()...)
		}
	}
	for i, line := range list {
		if runes := []rune(line); len(runes) > width {
			list[i] = string(runes[:width])
		}
	}
	return list
}

// failure returns why there is no snapshot.
func (r *topRow) failure() string {
	if r.err == nil {
		return "it has not answered yet"
	}
	return "it does not answer: " + printable(plain(r.err))
}

// summary returns the first line.
func summary(s *sample) string {
	var sent, received float64
	var queue int64
	var drops uint64
	processes := map[int]bool{}
	for _, r := range s.rows {
		queue, drops = queue+r.queue, drops+r.drops
		if r.isSender() {
			sent += r.messages
		} else {
			received += r.messages
		}
		processes[r.endpoint.PID] = true
	}
	return fmt.Sprintf("udsipc top, %s: %s of %s; %s msg/s sent, %s received, %s queued, %s dropped",
		s.time.Format("15:04:05"), plural(uint64(len(s.rows)), "source"), processCount(len(processes)),
		formatCount(sent), formatCount(received), formatCount(float64(queue)), formatCount(float64(drops)))
}

func processCount(n int) string {
	if n == 1 {
		return "1 process"
	}
	return fmt.Sprintf("%d processes", n)
}

// tableLine returns the cells of a line in their columns.
func tableLine(columns []topColumn, cell func(c topColumn) string) string {
	var b strings.Builder
	for i, c := range columns {
		text := []rune(cell(c))
		if c.width > 0 && len(text) > c.width {
			text = append(text[:c.width-1], '…')
		}
		padding := strings.Repeat(" ", max(0, c.width-len(text)))
		if i > 0 {
			b.WriteByte(' ')
		}
		if c.left {
			b.WriteString(string(text) + padding)
		} else {
			b.WriteString(padding + string(text))
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// peerLines returns a line for each peer.
func (r *topRow) peerLines() (lines []string) {
	for _, p := range r.peers {
		text := fmt.Sprintf("%8s msg/s from", formatCount(p.rate))
		if r.isSender() {
			text = fmt.Sprintf("%17s", "to")
		}
		text += fmt.Sprintf(" connection %d", p.ID)
		if p.PID > 0 {
			text += fmt.Sprintf("  pid %d %s", p.PID, programOf(p.PID))
		}
		if p.UID >= 0 {
			text += fmt.Sprintf("  uid %d", p.UID)
		}
		lines = append(lines, strings.TrimRight(text+"  "+p.Address, " "))
	}
	if r.now.MorePeers > 0 {
		lines = append(lines, fmt.Sprintf("         and %d more", r.now.MorePeers))
	}
	return lines
}

// programOf returns the name of a process, if the system tells (proc(5)).
func programOf(pid int) string {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return ""
	}
	return "(" + printable(strings.TrimSpace(string(name))) + ")"
}
