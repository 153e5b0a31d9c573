// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestConform_OwnReader_Passes: what the wire tells of listen is right, and a failed case is one of the exit code.
func TestConform_OwnReader_Passes(t *testing.T) {
	t.Parallel() // It mostly waits.
	address := socket(t)
	listener := start(t, nil, "listen", "--raw", address)
	got := execute(t, nil, "conform", address)
	if got.code != exitOK || !strings.Contains(got.stdout, " 0 failed, 3 skipped") {
		t.Errorf("%+v", got)
	}
	listener.stop(t)
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, nil, "listen", "--raw", address)
	awaitListener(t, address) // 20 ms are too few to wait for that.
	got = execute(t, nil, "conform", "--timeout", "20ms", "--handled", empty, address)
	if got.code != exitFailed || !strings.Contains(got.stdout, "FAIL") || !strings.Contains(got.stderr, "conform") {
		t.Errorf("%+v", got)
	}
}

func TestConform_Arguments_AreChecked(t *testing.T) {
	for _, args := range []string{
		"conform --listen --handled - /tmp/s", "conform --timeout 0s /tmp/s", "conform --messages 10 /tmp/s", "conform",
		"conform --handled - /tmp/s -- command",
	} {
		if got := execute(t, nil, strings.Fields(args)...); got.code != exitUsage {
			t.Errorf("%s: %+v", args, got)
		}
	}
	if got := execute(t, nil, "conform", "--timeout", "1ms", socket(t)); got.code != exitFailed ||
		!strings.Contains(got.stderr, "nobody listens") {
		t.Errorf("%+v", got)
	}
	if got := execute(t, nil, "conform", "--timeout", "1ms", "--listen", "tcp://127.0.0.1:0"); got.code != exitFailed {
		t.Errorf("%+v", got)
	}
}
