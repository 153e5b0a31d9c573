// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var mutantsFlag = flag.Bool("model.mutants", false, "break the code in each way that TestMutants knows, and see to it that TestModel notices")

// A mutant is a way to break acknowledged delivery: one piece of one file is replaced by another.
type mutant struct {
	name, file, old, new string
}

var mutants = []mutant{
	{"acknowledge on receipt", "session_read.go",
		"s.acknowledgeLocked(s.base + received - 1)", "s.acknowledgeLocked(s.base + received)"},
	{"acknowledge one too many", "session_read.go",
		"return s.base + s.in.counts.received.Load() - s.undone", "return s.base + s.in.counts.received.Load()"},
	{"off by one on the wire", "session_read.go",
		"s.sendLocked(binary.AppendUvarint(s.scratch[:0], handled))", "s.sendLocked(binary.AppendUvarint(s.scratch[:0], handled+1))"},
	{"no replay", "queue_take.go",
		"q.next, q.taken, q.part, q.partCount, q.early = 0, 0, 0, 0, 0\n\tq.seq.sent = q.seq.acked\n\treturn", "q.taken, q.part, q.partCount, q.early = 0, 0, 0, 0\n\treturn"},
	{"a partial frame is resumed", "queue_take.go",
		"q.next, q.taken, q.part, q.partCount, q.early = 0, 0, 0, 0, 0\n\tq.seq.sent = q.seq.acked\n\treturn", "q.next, q.taken, q.early = 0, 0, 0\n\tq.seq.sent = q.seq.acked\n\treturn"},
	{"no fencing", "memory.go",
		"before: w.owner,", "before: nil,"},
	{"the older connection's buffer is handled", "conn_read.go",
		"for in.r < in.w && !in.halted.Load() {", "for in.r < in.w {"},
	{"the welcome does not wait", "memory.go",
		"if c.before == nil {\n\t\treturn nil", "if true {\n\t\treturn nil"},
	{"the welcome is stale", "memory.go",
		"\tif c.welcome {\n\t\tw.handled = handled\n\t}\n", ""},
	{"no suppression of duplicates", "memory.go",
		"if !w.known {", "if true {"},
	{"a late hello takes over", "memory.go",
		"if h.attempt <= w.attempt {", "if false {"},
	{"a stale acknowledgement counts", "drain_session.go",
		"\treleased, err := w.queue.resume(answer.handled, answer.limit)\n",
		"\treleased, err := w.queue.resume(min(max(answer.handled, seq.acked)+1, seq.highest), answer.limit)\n"},
	{"repeats are not marked", "memory.go",
		"w.handled, w.repeats = c.hello.first-1, c.hello.sent", "w.handled, w.repeats = c.hello.first-1, 0"},
	{"the writer goes on without a welcome's word", "queue_acks.go",
		"\tif handled > q.seq.acked {\n", "\tif false {\n"},
}

// TestMutants runs the model on broken code, which it must find out.
func TestMutants(t *testing.T) {
	if !*mutantsFlag {
		t.Skip("takes minutes; -model.mutants")
	}
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			text, err := os.ReadFile(m.file)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(text), m.old); n != 1 {
				t.Fatalf("%s has this %d times, want once:\n%s", m.file, n, m.old)
			}
			changed := filepath.Join(t.TempDir(), m.file)
			write(t, changed, strings.Replace(string(text), m.old, m.new, 1))
			replace, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(folder, m.file): changed}})
			if err != nil {
				t.Fatal(err)
			}
			overlay := filepath.Join(t.TempDir(), "overlay.json")
			write(t, overlay, string(replace))
			cmd := exec.CommandContext(t.Context(), "go", "test", "-overlay", overlay, "-vet=off", "-count=1", "-timeout=2m",
				"-run", "^TestModel$", "-model.schedules", "20000", "-model.seed", "1", ".")
			output, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatal("it was not noticed")
			}
			if !strings.Contains(string(output), "--- FAIL: TestModel") && !strings.Contains(string(output), "panic: ") {
				t.Fatalf("the model did not run: %v\n%s", err, output)
			}
			t.Log(firstLine(string(output), "seed"))
		})
	}
}

func write(tb testing.TB, path, text string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
}

// firstLine returns the first line with this word.
func firstLine(text, word string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) && !strings.Contains(line, "schedules from") {
			return strings.TrimSpace(line)
		}
	}
	return strings.TrimSpace(text[:min(len(text), 300)])
}
