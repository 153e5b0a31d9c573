// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestProcess_FullDisk_GoesOn: a file system without room, until a file on it is removed. Meanwhile the file has whole
// lines, and the watchdog of systemd is fed; in the end it has each message once.
func TestProcess_FullDisk_GoesOn(t *testing.T) {
	t.Parallel() // It mostly waits.
	if output, err := exec.Command("unshare", "--mount", "true").CombinedOutput(); err != nil {
		if os.Getenv("UDSIPC_TEST_SYSTEMD") != "" {
			t.Fatalf("%v: %s", err, output)
		}
		t.Skipf("no mount namespace: %v: %s", err, output)
	}
	const messages = 3000
	address, disk := socket(t), t.TempDir()
	cmd := process(t, "listen", "--append", filepath.Join(disk, "f"), address)
	script := `mount -t tmpfs -o size=2m tmpfs "$0" && head -c 1900k /dev/zero >"$0/ballast" && exec "$@"`
	cmd.Args = append([]string{"unshare", "--mount", "sh", "-c", script, disk, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = program(t, "unshare")
	manager := ipctest.FakeNotify(t, ipctest.SocketPath(t))
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+manager.Conn.LocalAddr().String(), "WATCHDOG_USEC=200000")
	var stderr syncBuffer
	cmd.Stderr = &stderr
	done := startProcess(t, cmd)

	var lines bytes.Buffer
	for i := range messages {
		fmt.Fprintf(&lines, "%d %s\n", i, strings.Repeat("x", i%400))
	}
	sender := start(t, bytes.NewReader(lines.Bytes()), "send", "--ack", "--max-backoff=20ms", address)
	ipctest.Until(t, "the disk is full", func() bool { return strings.Contains(stderr.String(), "no space left") })
	manager.Drain(t)
	for range 5 { // For longer than a handler may take that the watchdog observes.
		manager.Says(t, "WATCHDOG=1")
	}
	inside := filepath.Join("/proc", fmt.Sprint(cmd.Process.Pid), "root", disk)
	if text := readWhole(t, inside); !strings.HasPrefix(lines.String(), text) {
		t.Errorf("the full disk has %d bytes that are not the first messages", len(text))
	}
	if err := os.Remove(filepath.Join(inside, "ballast")); err != nil {
		t.Fatal(err)
	}
	expect(t, sender.wait(t), exitOK, fmt.Sprintf("all of %d messages arrived", messages))
	if text := readWhole(t, inside); text != lines.String() {
		t.Errorf("the file has %d bytes, want %d", len(text), lines.Len())
	}
	_ = cmd.Process.Signal(os.Interrupt)
	if err := ipctest.Await(t, "the end of listen", done); err != nil {
		t.Errorf("%v: %s", err, stderr.String())
	}
	if !strings.Contains(stderr.String(), "there is room again") {
		t.Errorf("the errors are %s", stderr.String())
	}
}

// readWhole returns the file of the test, once it ends with a whole line: a write may be under way.
func readWhole(t *testing.T, dir string) (text string) {
	t.Helper()
	ipctest.Until(t, "the file has whole lines", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "f"))
		if err != nil {
			t.Fatal(err)
		}
		text = string(b)
		return text == "" || strings.HasSuffix(text, "\n")
	})
	return text
}
