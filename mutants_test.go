// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var mutantsFlag = flag.Bool("model.mutants", false, "break the code in each way that TestMutants knows, and see to it that TestModel notices")

// A mutant is a way to break delivery: pieces of one file are replaced by others.
type mutant struct {
	name, file, old, new string
	more                 []string // Further pieces, each followed by what replaces it.
	scenarios            uint64   // From this seed on TestModelScenarios notices it soon; 0: TestModel does, from 1.
}

var mutants = []mutant{
	{name: "acknowledge on receipt", file: "session_read.go",
		old: "s.acknowledgeLocked(s.handledBefore + received - 1)", new: "s.acknowledgeLocked(s.handledBefore + received)"},
	{name: "acknowledge one too many", file: "session_read.go",
		old: "return s.handledBefore + s.in.counts.received.Load() - s.lastFailed", new: "return s.handledBefore + s.in.counts.received.Load()"},
	{name: "off by one on the wire", file: "session_read.go",
		old: "s.sendLocked(binary.AppendUvarint(s.scratch[:0], handled))", new: "s.sendLocked(binary.AppendUvarint(s.scratch[:0], handled+1))"},
	{name: "no replay", file: "queue_take.go",
		old: "q.next, q.taken, q.writtenBytes, q.writtenFrames, q.earlyAck = 0, 0, 0, 0, 0\n\tq.seq.sent = q.seq.acked\n\treturn", new: "q.taken, q.writtenBytes, q.writtenFrames, q.earlyAck = 0, 0, 0, 0\n\treturn"},
	{name: "a partial frame is resumed", file: "queue_take.go",
		old: "q.next, q.taken, q.writtenBytes, q.writtenFrames, q.earlyAck = 0, 0, 0, 0, 0\n\tq.seq.sent = q.seq.acked\n\treturn", new: "q.next, q.taken, q.earlyAck = 0, 0, 0\n\tq.seq.sent = q.seq.acked\n\treturn"},
	{name: "no fencing", file: "memory.go",
		old: "previous: w.owner,", new: "previous: nil,"},
	{name: "the older connection's buffer is handled", file: "conn_decode.go",
		old: "for in.input.r < in.input.w && !in.end.halted.Load() {", new: "for in.input.r < in.input.w {"},
	{name: "the welcome does not wait", file: "memory.go",
		old: "if c.previous == nil {\n\t\treturn nil", new: "if true {\n\t\treturn nil"},
	{name: "the welcome is stale", file: "memory.go",
		old: "\t\tw.handled, w.failures = handled, failures\n", new: "\t\tw.failures = failures\n"},
	{name: "no suppression of duplicates", file: "memory.go",
		old: "if !w.known {", new: "if true {"},
	{name: "a late hello takes over", file: "memory.go",
		old: "if h.epoch <= w.epoch {", new: "if false {"},
	{name: "a stale acknowledgement counts", file: "drain_session.go",
		old: "\treleased, err := l.queue.applyWelcome(answer.handled, answer.limit)\n",
		new: "\treleased, err := l.queue.applyWelcome(min(max(answer.handled, seq.acked)+1, seq.highestSent), answer.limit)\n"},
	{name: "repeats are not marked", file: "memory.go",
		old: "w.handled, w.maybeHandledThrough = c.hello.firstSeq-1, c.hello.lastSentSeq", new: "w.handled, w.maybeHandledThrough = c.hello.firstSeq-1, 0"},
	{name: "the writer goes on without a welcome's word", file: "queue_acks.go",
		old: "\tif handled > q.seq.acked {\n", new: "\tif false {\n"},
	// Of both kinds of delivery, found by scenarios.
	{name: "every end of file is an orderly end", file: "conn_verdict.go", scenarios: 80,
		old: "return false // TLS and what a user brings along say nothing: only a report tells.", new: "return true"},
	{name: "the grace counts the handler's time", file: "conn_end.go", scenarios: 1,
		old: "\tg.waitStart = now\n", new: "\tif g.waitStart.IsZero() {\n\t\tg.waitStart = now\n\t}\n",
		more: []string{"\tg.waited += time.Since(g.waitStart)\n\tg.waitStart = time.Time{}\n", "\tg.waited += time.Since(g.waitStart)\n"}},
	{name: "a refusal is taken for a limit", file: "head_retry.go", scenarios: 1,
		old: "case end.reason.rejectsPeer(), end.reported && end.reason == closeOrderly, end.reason == closeTooLarge:", new: "case false:",
		more: []string{"|| now.Sub(s.since) < minHeadFailureTime", ""}},
	{name: "no acknowledgement after a read that filled its buffer", file: "conn_read.go", scenarios: 1,
		old: "func (in *inbound) readAny() error {\n\tin.sendAck()\n", new: "func (in *inbound) readAny() error {\n\tif !in.attempt.bufferFilled {\n\t\tin.sendAck()\n\t}\n"},
	{name: "the limit of a reader that is gone sticks", file: "sender_disconnect.go", scenarios: 1,
		old: "\tl.limit.Store(l.cfg.messageLimit) // The next reader may accept more than this one.\n", new: ""},
	{name: "memory is taken out of turn", file: "budget.go", scenarios: 1,
		old: "\t\tt := u.waiters[0]\n", new: "\t\tt := u.waiters[len(u.waiters)-1]\n",
		more: []string{"u.waiters = slices.Delete(u.waiters, 0, 1)", "u.waiters = slices.Delete(u.waiters, len(u.waiters)-1, len(u.waiters))"}},
	{name: "a message that failed is forgotten with its connection", file: "memory.go", scenarios: 1,
		old: "w.maybeHandledThrough = max(w.maybeHandledThrough, handled+1)", new: "w.maybeHandledThrough = max(w.maybeHandledThrough, handled)"},
	{name: "messages are dropped although that makes no room", file: "queue_drop.go", scenarios: 455,
		old: "\treturn messages < q.maxMessages && bytes+uint64(size) <= q.maxBytes && q.fitsSharedLimitLocked(bytes, size)\n",
		new: "\treturn messages+bytes >= 0 && len(q.front.segs)+len(q.waiting.segs) > 0\n"},
	{name: "time alone drops nothing", file: "queue_drop.go", scenarios: 1,
		old: "\tif q.maxAge == 0 || q.timerSet {\n", new: "\tif true {\n"},
	{name: "a flush does not hear of what is dropped", file: "queue_wait.go", scenarios: 1,
		old: "\tpassed := q.removedThroughLocked()\n", new: "\tpassed := q.counts.sent\n"},
	{name: "a flush that is given up stays in line", file: "queue_flush.go", scenarios: 1,
		old: "\tif f.value.waiters--; f.value.waiters == 0 {\n\t\tq.flushers.remove(f)\n\t}\n", new: ""},
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
			changed := filepath.Join(t.TempDir(), m.file)
			write(t, changed, m.apply(t))
			replace, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(folder, m.file): changed}})
			if err != nil {
				t.Fatal(err)
			}
			overlay := filepath.Join(t.TempDir(), "overlay.json")
			write(t, overlay, string(replace))
			test, seed := "TestModel", uint64(1)
			if m.scenarios > 0 {
				test, seed = "TestModelScenarios", m.scenarios
			}
			cmd := exec.CommandContext(t.Context(), "go", "test", "-overlay", overlay, "-vet=off", "-count=1", "-timeout=2m",
				"-run", "^"+test+"$", "-model.schedules", "20000", "-model.scenarios", "400", "-model.seed", strconv.FormatUint(seed, 10), ".")
			output, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatal("it was not noticed")
			}
			if !strings.Contains(string(output), "--- FAIL: "+test) && !strings.Contains(string(output), "panic: ") {
				t.Fatalf("the model did not run: %v\n%s", err, output)
			}
			t.Log(firstLine(string(output), "seed"))
		})
	}
}

// apply returns the text of the file with the pieces replaced.
func (m mutant) apply(tb testing.TB) string {
	tb.Helper()
	b, err := os.ReadFile(m.file)
	if err != nil {
		tb.Fatal(err)
	}
	text := string(b)
	for pieces := append([]string{m.old, m.new}, m.more...); len(pieces) > 0; pieces = pieces[2:] {
		if n := strings.Count(text, pieces[0]); n != 1 {
			tb.Fatalf("%s has this %d times, want once:\n%s", m.file, n, pieces[0])
		}
		text = strings.Replace(text, pieces[0], pieces[1], 1)
	}
	return text
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
