// SPDX-License-Identifier: Apache-2.0

package systemd_test

// This file runs docs/OPERATIONS.md on a machine with the package, and what docs/NEIGHBOURS.md says about the journal.
// A comment right above a block says what it is:
//
//	<!-- as root -->     commands on the machine, in a directory with the packages
//	<!-- as root, needs logrotate -->  the same; they are left out without that program, but not in CI
//	<!-- file: PATH -->  a file on it
//	<!-- builds -->      a command in the tree, which buildPackages runs with more flags

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
)

var pageBlock = regexp.MustCompile("(?ms)^<!-- ([^\n]*) -->\n```(sh|ini|)\n(.*?)^```$")

// packagePage runs the page, from the installation of the package to its end.
func packagePage(t *testing.T, m debianMachine) {
	page := string(ipctest.ReadFile(t, "docs/OPERATIONS.md"))
	blocks := pageBlock.FindAllStringSubmatch(page, -1)
	if all := strings.Count(page, "\n```") / 2; len(blocks) != all || all < 10 {
		t.Fatalf("%d of %d blocks have a comment that says what they are", len(blocks), all)
	}
	name := filepath.Base(m.packages.file(t, "1.0.0"))
	arch := strings.TrimSuffix(strings.TrimPrefix(name, "udsipc_1.0.0_"), ".deb")
	for _, block := range blocks {
		text := strings.ReplaceAll(block[3], "_amd64", "_"+arch)
		if path, ok := strings.CutPrefix(block[1], "file: "); ok {
			if err := os.MkdirAll(filepath.Dir(m.root(path)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(m.root(path), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if block[1] == "builds" {
			continue
		}
		if strings.HasSuffix(block[1], "needs logrotate") {
			if _, err := exec.LookPath("logrotate"); err != nil && os.Getenv("CI") != "true" {
				continue
			}
			text = "mkdir -p /var/lib/logrotate\n" + text // The gate unpacks the program alone.
		}
		output, err := m.try("bash", "-euo", "pipefail", "-c", "cd "+m.packages.dir+"\n"+text)
		if err != nil {
			t.Fatalf("%s\n%v: %s", text, err, output)
		}
	}
}

var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// examplesPage runs the commands that docs/SYSTEMD.md and examples/systemd/README.md install the examples with.
func examplesPage(t *testing.T, m debianMachine) {
	page := shellBlock.FindAllStringSubmatch(string(ipctest.ReadFile(t, "docs/SYSTEMD.md")), -1)
	blocks := shellBlock.FindAllStringSubmatch(string(ipctest.ReadFile(t, "examples/systemd/README.md")), -1)
	if len(page) != 1 || len(blocks) != 2 || page[0][1] != blocks[0][1] {
		t.Fatalf("docs/SYSTEMD.md installs the examples with %q, their own page with %q", page, blocks)
	}
	for _, block := range blocks {
		if output, err := m.try("bash", "-euo", "pipefail", "-c", "cd "+ipctest.Root(t)+"\n"+block[1]); err != nil {
			t.Fatalf("%s\n%v: %s", block[1], err, output)
		}
	}
	ipctest.Until(t, "both agents are connected", func() bool {
		return strings.Contains(m.control(t, "status", "collector"), `Status: "2 connections, `)
	})
	m.control(t, "stop", "agent.service", "spoolagent.service")
	m.control(t, "stop", "collector.service", "collector.socket")
}

// journalResumes ends the command of docs/NEIGHBOURS.md that follows the journal, and starts it again: each entry comes
// once, also those from between.
func journalResumes(t *testing.T, s *bootedSystemd) {
	file := s.installTool(t, "resume")
	page := string(ipctest.ReadFile(t, "docs/NEIGHBOURS.md"))
	_, command, _ := strings.Cut(page, "<!-- journal: from the cursor -->\n```sh\n")
	command, _, ok := strings.Cut(command, "```\n")
	if !strings.Contains(page, "<!-- journal -->\n```sh\n"+fromToolPage(t, "journal")) {
		t.Error("docs/NEIGHBOURS.md follows the journal with another command than docs/TOOL.md")
	}
	if !ok || command == "" {
		t.Fatal("docs/NEIGHBOURS.md has no command that begins at a cursor")
	}
	for from, to := range map[string]string{
		"/var/log/app/journal.jsonl": "/run/resume/events.jsonl", "/run/app.sock": "/run/resume.sock",
	} {
		command = strings.ReplaceAll(command, from, to)
	}
	s.write(t, "../../programs/follow", command)
	s.write(t, "../../systemd/journald.conf.d/test.conf", "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\n"+
		"RateLimitBurst=0\nForwardToSyslog=no\n")
	s.install(t, map[string]unit{
		"journal.service": {Service: "Type=notify\nExecStart=/lib/systemd/systemd-journald\nStandardOutput=null\n"},
		"speaker@.service": {Service: "Type=oneshot\nStandardOutput=journal\n" +
			"ExecStart=/bin/sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do echo speaker %i $$i; done'"},
		"resumes.service": {Service: "Environment=PATH=/run/programs:/usr/bin:/bin\nStandardError=append:" + s.log.Name() +
			"\nExecStart=/bin/sh /run/programs/follow"},
	})
	texts := func() map[string]int {
		found := spoken(t, file)
		maps.DeleteFunc(found, func(text string, _ int) bool { return !strings.HasPrefix(text, "speaker resumed-") })
		return found
	}
	s.control(t, "start", "journal.service", "resume.service")
	const rounds = 3
	for i := range rounds {
		s.control(t, "start", fmt.Sprintf("speaker@resumed-%d.service", i)) // Nobody follows.
		s.control(t, "start", "resumes.service")
		s.control(t, "start", fmt.Sprintf("speaker@resumed-x%d.service", i))
		ipctest.Until(t, "all entries have come", func() bool { return len(texts()) == 20*(i+1) })
		s.control(t, "stop", "resumes.service")
	}
	s.control(t, "stop", "resume.service")
	s.control(t, "stop", "journal.service")
	for text, count := range texts() {
		if count != 1 {
			t.Errorf("%q has come %d times", text, count)
		}
	}
}
