// SPDX-License-Identifier: Apache-2.0

package main

// This file writes and parses numbers with units, as all commands show and take them.

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
)

// A byteSize is the value of a flag in bytes: 4096, 64KiB, 10MB.
type byteSize uint64

// units are those of bytes, the larger ones first. A letter alone is a power of two, as it is for ls and dd.
var units = []struct {
	name  string
	bytes uint64
}{
	{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3},
	{"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}, {"k", 1 << 10}, {"B", 1},
}

// String implements flag.Value.
func (b *byteSize) String() string { return exactBytes(uint64(*b)) }

// Set implements flag.Value.
func (b *byteSize) Set(text string) error {
	unit := uint64(1)
	for _, u := range units {
		if number, ok := strings.CutSuffix(text, u.name); ok {
			text, unit = strings.TrimSpace(number), u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > math.MaxInt64/unit {
		return fmt.Errorf("not a size in bytes, such as 4096, 64KiB or 10MB")
	}
	*b = byteSize(n * unit)
	return nil
}

// exactBytes returns a size in the largest binary unit that it is a multiple of.
func exactBytes(n uint64) string {
	for _, u := range units[:3] {
		if n >= u.bytes && n%u.bytes == 0 {
			return fmt.Sprintf("%d%s", n/u.bytes, u.name)
		}
	}
	return strconv.FormatUint(n, 10)
}

// formatSize returns a size for a text: "100 bytes", "64KiB".
func formatSize(n uint64) string {
	if text := exactBytes(n); strings.HasSuffix(text, "B") {
		return text
	}
	return plural(n, "byte")
}

// formatBytes returns a size with three digits and a decimal unit, such as "12.3 MB".
func formatBytes(n float64) string { return formatUnit(n, "B") }

// formatCount returns a number with three digits: "950", "12.3 k", "1.04 M".
func formatCount(n float64) string { return strings.TrimSpace(formatUnit(n, "")) }

func formatUnit(n float64, unit string) string {
	for _, prefix := range []string{"", "k", "M", "G"} {
		switch {
		case n >= 999.5 && prefix != "G":
			n /= 1000
		case prefix == "" || n >= 99.95:
			return fmt.Sprintf("%.0f %s%s", n, prefix, unit)
		case n >= 9.995:
			return fmt.Sprintf("%.1f %s%s", n, prefix, unit)
		default:
			return fmt.Sprintf("%.2f %s%s", n, prefix, unit)
		}
	}
	return ""
}

// plural returns a number with its noun: "1 message", "2 messages".
func plural(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// isTerminal reports whether w is a terminal on which lines can be redrawn.
func (e *env) isTerminal(w any) bool {
	file, ok := w.(*os.File)
	if !ok || e.getenv("TERM") == "dumb" {
		return false
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
