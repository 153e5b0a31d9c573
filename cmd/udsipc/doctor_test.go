// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/inspect"
	"github.com/udsipc/udsipc/internal/ipctest"
)

func TestDoctor_Reader_IsFine(t *testing.T) {
	private(t)
	address := exchange(t)
	got := execute(t, nil, "doctor", address)
	if got.code != exitOK || got.stderr != "" {
		t.Fatalf("%+v", got)
	}
	for _, want := range []string{
		address + ": a Reader with sessions, for messages up to 10 MiB, listens in process ",
		fmt.Sprintf("process %d (", os.Getpid()),
		"ok       protocol   a Reader that supports sessions", `it publishes metrics as "the-reader"`, "3 messages",
		"0 problems, ",
	} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("no %q in\n%s", want, got.stdout)
		}
	}
	t.Chdir(filepath.Dir(address))
	got = execute(t, nil, "doctor", "./"+filepath.Base(address))
	if !strings.Contains(got.stdout, `metrics as "the-reader"`) {
		t.Errorf("no metrics by a relative path:\n%s", got.stdout)
	}
}

func TestDoctor_Problems_HaveRemedies(t *testing.T) {
	path := ipctest.SocketPath(t)
	ipctest.LeaveStale(t, path)
	got := execute(t, nil, "doctor", path)
	if got.code != exitFailed || !strings.HasPrefix(got.stdout, path+": a stale socket file; nobody listens\n") ||
		!strings.Contains(got.stdout, "-> Start the reader") || !strings.Contains(got.stdout, "\n1 problem, ") {
		t.Errorf("%+v", got)
	}
	for line := range strings.Lines(got.stdout) {
		if len([]rune(line)) > 102 {
			t.Errorf("a line of %d columns: %s", len([]rune(line)), line)
		}
	}
	if ipctest.Lstat(t, path) == nil {
		t.Error("the stale file was removed")
	}
}

// TestDoctor_StrangeAddress_IsPrintable: whoever names a file must not control the terminal.
func TestDoctor_StrangeAddress_IsPrintable(t *testing.T) {
	got := execute(t, nil, "doctor", "/tmp/a\x1b[31m\nb.sock")
	if got.code != exitFailed || strings.ContainsRune(got.stdout, '\x1b') || !strings.HasPrefix(got.stdout, "/tmp/a?[31m?b") {
		t.Errorf("%+q", got.stdout)
	}
}

func TestDoctor_JSON_IsTheReport(t *testing.T) {
	path := ipctest.SocketPath(t)
	got := execute(t, nil, "doctor", "--json", path)
	var report inspect.Report
	if err := json.Unmarshal([]byte(got.stdout), &report); err != nil || got.code != exitFailed {
		t.Fatalf("%+v, %v", got, err)
	}
	if problems, _ := report.Problems(); report.Address != path || report.Kind != inspect.KindFile || problems != 1 {
		t.Errorf("%+v", report)
	}
}

func TestDoctor_Arguments_AreChecked(t *testing.T) {
	for _, args := range [][]string{{}, {"one", "two"}, {"http://x"}, {""}, {"--timeout", "0s", "/run/x"}, {"--loud", "/run/x"}} {
		if got := execute(t, nil, append([]string{"doctor"}, args...)...); got.code != exitUsage || got.stdout != "" {
			t.Errorf("%v: %+v", args, got)
		}
	}
}

// TestDoctor_Metrics_TellTrouble: what a Reader counts as trouble is a note.
func TestDoctor_Metrics_TellTrouble(t *testing.T) {
	private(t)
	address := ipctest.SocketPath(t)
	reader, err := udsipc.NewReader(func([]byte) error { panic("no") }, address, udsipc.WithPublishedMetrics("r"))
	if err != nil {
		t.Fatal(err)
	}
	ipctest.MustListenAt(t, reader)
	defer reader.Close()
	writer, err := udsipc.NewWriter(address)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(writer.Start(), writer.WriteMessage([]byte("x")), writer.Flush(t.Context()), writer.Close())
	if err != nil {
		t.Fatal(err)
	}
	ipctest.Until(t, "the panic is counted", func() bool { return reader.Metrics().Panics == 1 })
	got := execute(t, nil, "doctor", address)
	if got.code != exitOK || !strings.Contains(got.stdout, "messages that made the handler panic: 1") {
		t.Errorf("%+v", got)
	}
}
