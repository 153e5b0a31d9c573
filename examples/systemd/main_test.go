// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/udsipc/udsipc"
)

func TestCollector_Messages_BecomeLines(t *testing.T) {
	for name, how := range map[string]os.Signal{"stop": syscall.SIGTERM, "restart, without systemd": handOver} {
		t.Run(name, func(t *testing.T) { becomeLines(t, how) })
	}
}

func becomeLines(t *testing.T, how os.Signal) {
	address := filepath.Join(t.TempDir(), "s")
	var out bytes.Buffer
	signals := make(chan os.Signal, 1)
	done := make(chan error, 1)
	go func() { done <- run(signals, address, &out) }() // Ends with the signal.

	w, err := udsipc.NewWriter(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two"} {
		if err := w.WriteMessage([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	signals <- how
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "one\ntwo\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestUnits_PassSystemdAnalyze has systemd look at the units: it finds nothing wrong, and little that is exposed.
func TestUnits_PassSystemdAnalyze(t *testing.T) {
	program, err := exec.LookPath("systemd-analyze")
	if err != nil {
		if os.Getenv("UDSIPC_TEST_SYSTEMD") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	units := []string{"collector.socket", "collector.service", "agent.service"}
	for i, name := range units {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		// The programs are not installed here.
		text = bytes.ReplaceAll(text, []byte("/usr/local/bin/collector"), []byte("/bin/true"))
		text = bytes.ReplaceAll(text, []byte("/usr/local/bin/agent"), []byte("/bin/true"))
		units[i] = filepath.Join(dir, name)
		if err := os.WriteFile(units[i], text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	verify := exec.Command(program, append([]string{"verify", "--man=no"}, units...)...)
	if output, err := verify.CombinedOutput(); err != nil || len(output) > 0 {
		t.Errorf("verify: %v: %s", err, output)
	}
	for _, unit := range units[1:] {
		// 2.0 of 10; "OK" begins below 5.
		security := exec.Command(program, "security", "--offline=yes", "--threshold=20", "--no-pager", unit)
		if output, err := security.CombinedOutput(); err != nil {
			lines := strings.Split(strings.TrimSpace(string(output)), "\n")
			t.Errorf("security: %v: %s", err, lines[len(lines)-1])
		}
	}
}
