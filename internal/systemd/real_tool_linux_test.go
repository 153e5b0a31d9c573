// SPDX-License-Identifier: Apache-2.0

package systemd_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// fromToolPage returns the block of docs/TOOL.md behind a comment.
func fromToolPage(t *testing.T, comment string) string {
	t.Helper()
	_, text, ok := strings.Cut(string(ipctest.ReadFile(t, "docs/TOOL.md")), "<!-- "+comment+" -->\n```")
	_, text, _ = strings.Cut(text, "\n")
	text, _, closed := strings.Cut(text, "```\n")
	if !ok || !closed {
		t.Fatalf("docs/TOOL.md has no block %q", comment)
	}
	return text
}

// installTool builds the tool, and installs the unit of docs/TOOL.md that listens at /run/app.sock and appends to a
// file, which it returns.
func (s *bootedSystemd) installTool(t *testing.T, name string) (file string) {
	t.Helper()
	s.installExamples(t, map[string]string{"udsipc": "./cmd/udsipc"})
	text := fromToolPage(t, "unit: udsipc-listen.service")
	for from, to := range map[string]string{
		"/usr/local/bin/": "/run/programs/", "/var/log/app/": "/run/" + name + "/", "/run/app.sock": "/run/" + name + ".sock",
		// The machine's own /var/log stays as it is.
		"LogsDirectory=app": "RuntimeDirectoryPreserve=yes\nRuntimeDirectory=" + name,
	} {
		text = strings.ReplaceAll(text, from, to)
	}
	s.install(t, map[string]unit{name + ".service": {
		Unit:    "StartLimitIntervalSec=0",
		Service: strings.TrimPrefix(text, "[Service]\n") + "RestartSec=10ms\nStandardError=append:" + s.log.Name(),
	}})
	return filepath.Join("/proc", strconv.Itoa(s.pid), "root/run", name, "events.jsonl")
}

// A toolLine is what the tests read of a line of udsipc listen --json.
type toolLine struct {
	Writer string
	Seq    uint64
	Data   string
}

// toolLines returns the lines of a file that the tool has written.
func toolLines(t *testing.T, file string) (list []toolLine) {
	t.Helper()
	text, _ := os.ReadFile(file) // It may not be there yet.
	for line := range strings.Lines(string(text)) {
		var got toolLine
		if !strings.HasSuffix(line, "\n") {
			break // It is being written.
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		list = append(list, got)
	}
	return list
}

// journalThroughTool has the command of docs/TOOL.md follow a real journal into the unit of that page. The unit is
// killed meanwhile, and journald restarted: each entry comes, and what comes twice is known by its number.
func journalThroughTool(t *testing.T, s *bootedSystemd) {
	file := s.installTool(t, "app")
	command := strings.TrimSpace(fromToolPage(t, "journal"))
	s.write(t, "../../systemd/journald.conf.d/test.conf", "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\n"+
		"RateLimitBurst=0\nForwardToSyslog=no\n")
	s.install(t, map[string]unit{
		"journal.service": {Service: "Type=notify\nExecStart=/lib/systemd/systemd-journald\nStandardOutput=null\n"},
		"speaker@.service": {Service: "Type=oneshot\nStandardOutput=journal\n" +
			"ExecStart=/bin/sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do echo speaker %i $$i; done'"},
		"follow.service": {Service: "Environment=PATH=/run/programs:/usr/bin:/bin\nStandardError=append:" + s.log.Name() +
			"\nExecStart=/bin/sh -c '" + command + "'"},
	})
	s.control(t, "start", "journal.service", "app.service")
	s.control(t, "start", "speaker@early.service") // Then there is a journal; and it is the last 10 entries of it,
	s.control(t, "start", "follow.service")        // or some of them, that journalctl begins with.
	ipctest.Until(t, "journalctl follows", func() bool { return len(spoken(t, file)) > 0 })
	const speakers = 6
	for i := range speakers {
		s.control(t, "start", fmt.Sprintf("speaker@%d.service", i))
		switch i % 3 {
		case 1:
			s.control(t, "kill", "--signal=KILL", "app.service")
		case 2:
			s.control(t, "restart", "journal.service") // journalctl follows the files.
		}
	}
	ipctest.Until(t, "all entries have come", func() bool {
		texts := spoken(t, file)
		maps.DeleteFunc(texts, func(text string, _ int) bool { return strings.HasPrefix(text, "speaker early ") })
		return len(texts) == 10*speakers
	})
	s.control(t, "stop", "follow.service")
	s.control(t, "stop", "app.service")
	s.control(t, "stop", "journal.service")
	for text, count := range spoken(t, file) {
		if count != 1 && !strings.HasPrefix(text, "speaker early ") {
			t.Errorf("%q has come as %d messages", text, count)
		}
	}
}

// spoken returns the texts of the speakers' entries, and for how many messages of a writer each stands.
func spoken(t *testing.T, file string) map[string]int {
	t.Helper()
	found, seen := map[string]int{}, map[string]bool{}
	for _, line := range toolLines(t, file) {
		var entry struct {
			Message any    `json:"MESSAGE"`
			Cursor  string `json:"__CURSOR"`
		}
		if err := json.Unmarshal([]byte(line.Data), &entry); err != nil || entry.Cursor == "" {
			t.Fatalf("%q is no entry of a journal: %v", line.Data, err)
		}
		text, _ := entry.Message.(string)
		if id := fmt.Sprint(line.Writer, line.Seq); strings.HasPrefix(text, "speaker ") && !seen[id] {
			seen[id] = true
			found[text]++
		}
	}
	return found
}

// toolHandsOver restarts the unit of docs/TOOL.md under load: writers stay connected, and nothing is lost or repeated,
// with acknowledgements or without.
func toolHandsOver(t *testing.T, s *bootedSystemd) {
	file := s.installTool(t, "handover")
	before := len(toolLines(t, file))
	s.control(t, "start", "handover.service")
	address := filepath.Join("/proc", strconv.Itoa(s.pid), "root/run/handover.sock")
	stop := make(chan struct{})
	plain := startTalker(t, stop, "plain", address)
	acknowledged := startTalker(t, stop, "acknowledged", address, udsipc.WithAcknowledgements())
	for range 3 {
		enough := len(toolLines(t, file)) + 100
		ipctest.Until(t, "some messages have come", func() bool { return len(toolLines(t, file)) > enough })
		s.control(t, "restart", "handover.service")
	}
	close(stop)
	want := map[string]int{"plain": ipctest.Await(t, "the plain writer", plain),
		"acknowledged": ipctest.Await(t, "the acknowledged writer", acknowledged)}
	s.control(t, "stop", "handover.service")
	next := map[string]int{}
	for _, line := range toolLines(t, file)[before:] {
		name, number, _ := strings.Cut(line.Data, " ")
		if number != strconv.Itoa(next[name]) {
			t.Fatalf("%q comes after %d messages of the writer", line.Data, next[name])
		}
		next[name]++
	}
	if !maps.Equal(next, want) {
		t.Errorf("the file has %v, want %v", next, want)
	}
}

// startTalker starts a writer that sends until stop is closed. The channel then has the number of messages, which all
// went through one connection.
func startTalker(t *testing.T, stop <-chan struct{}, name, address string, opts ...udsipc.WriterOption) <-chan int {
	t.Helper()
	w := ipctest.StartWriter(t, address, append(opts, udsipc.WithOverflow(udsipc.OverflowBlock))...)
	result := make(chan int, 1)
	go func() { // Ends with stop.
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		sent := 0
		defer func() { result <- sent }()
		for {
			select {
			case <-ticker.C:
			case <-stop:
				if err := w.Stop(t.Context()); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if m := w.Metrics(); m.Connections != 1 {
					t.Errorf("%s: %d connections", name, m.Connections)
				}
				return
			}
			if err := w.WriteMessage(fmt.Appendf(nil, "%s %d", name, sent)); err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			sent++
		}
	}()
	return result
}

// toolLooksAtService: root sees the metrics of a service of another user, in its RuntimeDirectory=, and its unit.
func toolLooksAtService(t *testing.T, s *bootedSystemd) {
	s.installExamples(t, map[string]string{"udsipc": "./cmd/udsipc"})
	s.install(t, map[string]unit{"seen.service": {
		Service: "Type=notify\nUser=65534\nPrivateTmp=yes\nRuntimeDirectory=seen\nStandardOutput=null\n" +
			"ExecStart=/run/programs/udsipc listen --publish seen /run/seen/s.sock\nStandardError=append:" + s.log.Name(),
	}})
	s.control(t, "start", "seen.service")
	for command, want := range map[string][]string{
		"top --once --json":       {`"path":"/run/seen/udsipc/`, `"name":"seen","kind":"reader"`},
		"doctor /run/seen/s.sock": {"unit seen.service, listens", `publishes metrics as "seen"`, "0 problems"},
	} {
		output, err := s.try(append([]string{"/run/programs/udsipc"}, strings.Fields(command)...)...)
		for _, text := range want {
			if err != nil || !strings.Contains(output, text) {
				t.Errorf("udsipc %s: %v, no %q in\n%s", command, err, text, output)
			}
		}
	}
	s.control(t, "stop", "seen.service")
}
