// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestBench_Rows_AreMeasured: between processes, over a socket and over TCP, with several of each.
func TestBench_Rows_AreMeasured(t *testing.T) {
	t.Parallel()   // It mostly waits.
	_ = process(t) // Skips where none is to be started: not in the goroutine of the program.
	for name, args := range map[string][]string{
		"one":  {"--time=5ms", "--rounds=1"},
		"many": {"--time=5ms", "--rounds=2", "--size=64KiB", "--producers=2", "--connections=3"},
		"tcp":  {"--time=5ms", "--rounds=1", "--address", ipctest.TcpAddress(t)},
	} {
		t.Run(name, func(t *testing.T) {
			got := execute(t, nil, append([]string{"bench", "--json"}, args...)...)
			expect(t, got, exitOK, "")
			var table struct{ Rows []benchRow }
			if err := json.Unmarshal([]byte(got.stdout), &table); err != nil || len(table.Rows) != 4 {
				t.Fatalf("%v: %s", err, got.stdout)
			}
			for _, row := range table.Rows {
				if row.Messages <= 0 || row.Bytes <= 0 || row.Share <= 0 {
					t.Errorf("got %+v", row)
				}
			}
		})
	}
}

func TestBench_Table_IsAligned(t *testing.T) {
	rows := benchRows()
	for i, row := range rows {
		row.Messages, row.Bytes, row.Share = 1e6/float64(i+1), 128e6, 1/float64(i+1)
	}
	var text strings.Builder
	if err := (&benchFlags{size: 128, connections: 1, producers: 2}).write(&text, rows); err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(text.String(), "\n") // The first line names the machine.
	golden(t, "bench.txt", table)
}

func TestBench_Failures_AreTold(t *testing.T) {
	for args, want := range map[string]string{
		"--size=0": "--size: want", "--producers=0": "want 1 or more", "--rounds=0": "want more than 0",
		"more": `there is no argument for "more"`,
	} {
		expect(t, execute(t, nil, "bench", args), exitUsage, want)
	}
	got := execute(t, nil, "bench", "--address=/nowhere/at/all", "--time=1ms")
	expect(t, got, exitFailed, "bare socket, a write each: ")
}
