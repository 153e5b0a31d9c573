// SPDX-License-Identifier: Apache-2.0

//go:build unix

package publish_test

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestPython_Client runs the client of docs/METRICS.md.
func TestPython_Client(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	private(t)
	published(t, map[string]int{"sent": 7})
	text, err := os.ReadFile("../../docs/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, program, _ := strings.Cut(string(text), "```python\n")
	program, _, _ = strings.Cut(program, "```")
	out, err := exec.CommandContext(t.Context(), python, "-c", program).CombinedOutput()
	if want := strconv.Itoa(os.Getpid()) + " writer test {'sent': 7}\n"; err != nil || string(out) != want {
		t.Errorf("it printed %q, %v, want %q", out, err, want)
	}
}
