// SPDX-License-Identifier: Apache-2.0

// Package ipctest is what the tests of several packages share: readers and writers that are stopped with their test,
// transports to try each promise over, a network in memory that breaks on demand, processes in a role, and a systemd.
package ipctest

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// Main is the TestMain of a package. It plays a role if this process was made for one, and fails if a test leaves
// goroutines of the library behind.
func Main(m *testing.M) {
	if role, ok := os.LookupEnv(RoleVariable); ok {
		os.Exit(Play(role))
	}
	// Tests that run beside others mostly wait: for time to pass, or for other processes.
	// Under the race detector and in an emulator they work.
	if !RaceEnabled && os.Getenv("UDSIPC_TEST_EMULATED") == "" {
		if err := flag.Set("test.parallel", "16"); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	if left := Leaked(); left != "" {
		fmt.Fprintf(os.Stderr, "goroutines are left behind:\n%s\n", left)
		code = max(code, 1)
	}
	os.Exit(code)
}

// InShort returns short in a short run, else long: how often a test repeats what it does.
func InShort(long, short int) int {
	if testing.Short() {
		return short
	}
	return long
}
