// SPDX-License-Identifier: Apache-2.0

// Package ipctest has what the tests of several packages share: Readers and Writers that stop with
// their test, the transports that each promise is tested over, a network in memory with faults,
// processes in a role, and a fake systemd.
package ipctest

import (
	"flag"
	"fmt"
	"log"
	"log/slog"
	"os"
	"testing"
)

// Main is the TestMain of a package. It runs a role if this process was started for one. It fails
// if goroutines of the library are left after the tests. slog.Default() discards what it gets, unless
// UDSIPC_TEST_LOG is set.
func Main(m *testing.M) {
	if os.Getenv("UDSIPC_TEST_LOG") == "" {
		flags := log.Flags()
		slog.SetDefault(slog.New(slog.DiscardHandler))
		log.SetOutput(os.Stderr) // SetDefault has changed both.
		log.SetFlags(flags)
	}
	if role, ok := os.LookupEnv(RoleVariable); ok {
		os.Exit(Play(role))
	}
	// Parallel tests mostly wait, for time or for other processes. Under the race detector and in
	// an emulator they use the processor.
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

// InSoak returns ordinary, a tenth of it in a short run, or soak if UDSIPC_TEST_SOAK is set: how often a test repeats
// what it does.
func InSoak(ordinary, soak int) int {
	switch {
	case os.Getenv("UDSIPC_TEST_SOAK") != "":
		return soak
	case testing.Short():
		return max(ordinary/10, 1)
	}
	return ordinary
}
