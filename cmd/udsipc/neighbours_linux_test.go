// SPDX-License-Identifier: Apache-2.0

package main

// This file runs docs/NEIGHBOURS.md as docs_linux_test.go runs docs/TOOL.md. Further comments above a block:
//
//	<!-- file: PATH -->  the block is this file, which programs may run
//	<!-- import -->      TestNeighbours_Import_HasEachMessageOnce runs it once more
//	<!-- journal: … -->  another test runs it, under a systemd of its own (internal/systemd)

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestNeighbours_Commands_Run runs the commands of the page, with the programs and configurations that it names.
func TestNeighbours_Commands_Run(t *testing.T) {
	if testing.Short() {
		t.Skip("starts daemons")
	}
	sections, bySection := []string{}, map[string][]docBlock{}
	for _, block := range docBlocks(t, "docs/NEIGHBOURS.md") {
		if bySection[block.section] == nil {
			sections = append(sections, block.section)
		}
		bySection[block.section] = append(bySection[block.section], block)
	}
	ran := 0
	for _, section := range sections {
		t.Run(strings.Trim(section, "# "), func(t *testing.T) {
			t.Parallel()
			shell := newDocShell(t)
			shell.installProgram(t)
			for _, block := range bySection[section] {
				if path, ok := block.notes["file"]; ok {
					shell.install(t, path, block.text)
					continue
				}
				if _, elsewhere := block.notes["journal"]; block.language != "sh" || elsewhere {
					continue
				}
				if name, ok := block.notes["needs"]; !ok || available(t, name) {
					shell.run(t, block)
				}
			}
			shell.terminate(t)
		})
		ran += len(bySection[section])
	}
	if ran < 20 {
		t.Errorf("the page has %d blocks", ran)
	}
}

// TestNeighbours_Import_HasEachMessageOnce: the import of the page, twice, of messages with acknowledgements and
// without, of text and of bytes.
func TestNeighbours_Import_HasEachMessageOnce(t *testing.T) {
	program(t, "sqlite3")
	shell := newDocShell(t)
	shell.run(t, docBlock{text: "mkdir -p /var/log/app /var/lib/app"})
	shell.run(t, docBlock{notes: map[string]string{"background": ""},
		text: "udsipc listen --json --append /var/log/app/events.jsonl /run/app.sock"})
	const send = `for option in --ack --ack=false --ack=false; do
	printf 'one\0two\nlines\0\xff\0' | udsipc send --null $option /run/app.sock
done
`
	shell.run(t, docBlock{text: send})
	for _, block := range docBlocks(t, "docs/NEIGHBOURS.md") {
		if _, ok := block.notes["import"]; ok {
			shell.run(t, block)
			shell.run(t, block)
			shell.run(t, docBlock{text: `columns='count(*), count(data), count(base64), max(data), max(base64)'
got=$(sqlite3 -separator ' ' /var/lib/app/events.db "SELECT $columns FROM events")
if test "$got" != "9 6 3 two
lines /w=="; then echo "$got"; exit 1; fi
`})
			return
		}
	}
	t.Error("the page has no import")
}

// TestOperations_Backup_IsSentAsItWas: the command of docs/OPERATIONS.md that sends a file once more.
func TestOperations_Backup_IsSentAsItWas(t *testing.T) {
	program(t, "jq")
	_, command, _ := strings.Cut(string(ipctest.ReadFile(t, "docs/OPERATIONS.md")), "\njq -j ")
	command, _, ok := strings.Cut(command, "```")
	if !ok {
		t.Fatal("the page has no such command")
	}
	command = "jq -j " + strings.NewReplacer("/run/udsipc-collector/collector.sock", "/run/b.sock",
		"/srv/messages/messages.jsonl.2*", "/var/log/a").Replace(command)
	shell := newDocShell(t)
	for _, name := range []string{"a", "b"} {
		shell.run(t, docBlock{notes: map[string]string{"background": ""},
			text: "udsipc listen --json --append /var/log/" + name + " /run/" + name + ".sock"})
	}
	shell.run(t, docBlock{text: `printf 'one\0two\nlines\0\0" \\ \t\0' | udsipc send --null --ack /run/a.sock
` + command + `
test $(jq -s length /var/log/b) = 4
test "$(jq .data /var/log/a)" = "$(jq .data /var/log/b)"
`})
}

// install makes a file below the root. A program in Python finds the client of the tree.
func (s *docShell) install(t *testing.T, path, text string) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		python = "/usr/bin/python3"
	}
	client := filepath.Join(ipctest.Root(t), "clients/python/src")
	text = rooted.ReplaceAllString(text, "${1}"+s.root+"${2}/")
	text = strings.Replace(text, "#!/usr/bin/python3\n",
		fmt.Sprintf("#!/usr/bin/env -S PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=%s %s\n", client, python), 1)
	path = filepath.Join(s.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// installProgram installs the tool for programs that start it without an environment.
func (s *docShell) installProgram(t *testing.T) {
	t.Helper()
	cmd := process(t)
	script := "#!/bin/sh\n"
	for _, variable := range cmd.Env {
		if name, value, _ := strings.Cut(variable, "="); !slices.Contains(os.Environ(), variable) {
			script += "export " + name + "='" + value + "'\n"
		}
	}
	s.install(t, "usr/local/bin/udsipc", script+"exec '"+cmd.Path+"' \"$@\"\n")
}

// terminate ends what runs in the background, as systemd does. What was started last may need the others.
func (s *docShell) terminate(t *testing.T) {
	for _, cmd := range slices.Backward(s.background) {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() > 0 {
			t.Errorf("%v: %v: %s", cmd.Args, err, cmd.Stdout)
		}
	}
	s.background = nil
}

// TestNeighbours_ConfirmingProgram_KilledLosesNothing: rsyslog keeps what the program of the page has not confirmed.
func TestNeighbours_ConfirmingProgram_KilledLosesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a daemon")
	}
	program(t, "rsyslogd")
	shell := newDocShell(t)
	shell.installProgram(t)
	for _, block := range docBlocks(t, "docs/NEIGHBOURS.md") {
		if block.section != "### With confirmations" {
			continue
		}
		if path, ok := block.notes["file"]; ok {
			shell.install(t, path, block.text)
		} else if _, ok := block.notes["background"]; ok {
			shell.run(t, block)
		}
	}
	const script = `killed=
for try in $(seq 3000); do if test -S /run/syslog.sock; then break; fi; sleep 0.01; done
for round in 1 2 3 4 5; do
	for i in $(seq 40); do logger --socket /run/syslog.sock --tag app "message $round.$i."; done
	for try in $(seq 1000); do
		for process in /proc/[0-9]*; do
			if cat $process/cmdline 2>/dev/null | tr '\0' ' ' | grep " $PWD/usr/local/bin/confirm" >/dev/null; then
				kill -KILL ${process#/proc/} && killed=yes && break
			fi
		done
		if test -n "$killed"; then break; fi # rsyslog has started it, at the first messages.
	done
done
for try in $(seq 600); do
	n=$( (grep -o 'message [0-9.]*' /var/log/confirmed.log || true) | sort -u | wc -l) # At first there is none.
	if test "$n" = 200; then test -n "$killed"; exit; fi
	sleep 0.05
done
echo "$n of 200 messages have come"; exit 1
`
	shell.run(t, docBlock{language: "sh", text: script})
	shell.terminate(t)
}
