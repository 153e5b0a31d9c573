// SPDX-License-Identifier: Apache-2.0

package model_test

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

var mutantsFlag = flag.Bool("model.mutants", false,
	"break the code in each way that TestMutants knows, and see to it that TestModel notices")

// A mutant is a way to break delivery: pieces of one file are replaced by others.
type mutant struct {
	name, file, old, new string
	more                 []string // Further pieces, each followed by what replaces it.
	scenarios            uint64   // From this seed on TestModelScenarios notices it soon; 0: TestModel does, from 1.
	test                 string   // A test of the file's own package notices it.
	resumed              bool     // TestModelResumed notices it.
}

// root is the directory of the module.
const root = "../.."

var mutants = []mutant{
	{name: "acknowledge on receipt", file: "internal/transport/acks.go",
		old: "s.acknowledgeLocked(s.handledBefore + received - 1)", new: "s.acknowledgeLocked(s.handledBefore + received)"},
	{name: "acknowledge one too many", file: "internal/transport/acks.go",
		old: "return s.handledBefore + s.in.counts.received.Load() - s.unhandled",
		new: "return s.handledBefore + s.in.counts.received.Load()"},
	{name: "off by one on the wire", file: "internal/transport/acks.go",
		old: "s.sendLocked(binary.AppendUvarint(s.scratch[:0], handled))",
		new: "s.sendLocked(binary.AppendUvarint(s.scratch[:0], handled+1))"},
	{name: "no replay", file: "internal/queue/take.go",
		old: "q.next, q.taken, q.sentBytes, q.writtenBytes, q.writtenFrames, q.earlyAck = 0, 0, 0, 0, 0, 0\n" +
			"\tq.seq.sent = q.seq.Acked\n\treturn",
		new: "q.taken, q.writtenBytes, q.writtenFrames, q.earlyAck = 0, 0, 0, 0\n\treturn"},
	{name: "a partial frame is resumed", file: "internal/queue/take.go",
		old: "q.next, q.taken, q.sentBytes, q.writtenBytes, q.writtenFrames, q.earlyAck = 0, 0, 0, 0, 0, 0\n" +
			"\tq.seq.sent = q.seq.Acked\n\treturn",
		new: "q.next, q.taken, q.sentBytes, q.earlyAck = 0, 0, 0, 0\n\tq.seq.sent = q.seq.Acked\n\treturn"},
	{name: "no fencing", file: "internal/receiver/writer_states.go",
		old: "previous: w.owner,", new: "previous: nil,"},
	{name: "the older connection's buffer is handled", file: "internal/transport/in_decode.go",
		old: "for in.input.r < in.input.w && !in.end.halted.Load() {", new: "for in.input.r < in.input.w {"},
	{name: "the welcome does not wait", file: "internal/receiver/writer_states.go",
		old: "if c.previous == nil {\n\t\treturn nil", new: "if true {\n\t\treturn nil"},
	{name: "the welcome is stale", file: "internal/receiver/writer_states.go",
		old: "\t\tw.handled, w.failures = handled, failures\n", new: "\t\tw.failures = failures\n"},
	{name: "no suppression of duplicates", file: "internal/receiver/writer_states.go",
		old: "if !w.known {", new: "if true {"},
	{name: "a late hello takes over", file: "internal/receiver/writer_states.go",
		old: "if h.Epoch <= w.epoch {", new: "if false {"},
	{name: "a stale acknowledgement counts", file: "internal/sender/session.go",
		old: "\treleased, err := l.queue.ApplyWelcome(answer.Handled, answer.Limit)\n",
		new: "\treleased, err := l.queue.ApplyWelcome(min(max(answer.Handled, seq.Acked)+1, " +
			"seq.HighestSent), answer.Limit)\n"},
	{name: "repeats are not marked", file: "internal/receiver/writer_states.go",
		old: "w.handled, w.maybeHandledThrough = c.hello.FirstSeq-1, c.hello.LastSentSeq",
		new: "w.handled, w.maybeHandledThrough = c.hello.FirstSeq-1, 0"},
	{name: "the writer goes on without a welcome's word", file: "internal/queue/acks.go",
		old: "\tif handled > q.seq.Acked {\n", new: "\tif false {\n"},
	// Of both kinds of delivery, found by scenarios.
	{name: "every end of file is an orderly end", file: "internal/transport/out_verdict.go", scenarios: 80,
		old: "return false // TLS and what a user brings along say nothing: only a report tells.", new: "return true"},
	{name: "the grace counts the handler's time", file: "internal/transport/in_end.go", scenarios: 1,
		old: "\tg.waitStart = now\n", new: "\tif g.waitStart.IsZero() {\n\t\tg.waitStart = now\n\t}\n",
		more: []string{
			"\tg.waited += time.Since(g.waitStart)\n\tg.waitStart = time.Time{}\n",
			"\tg.waited += time.Since(g.waitStart)\n",
		}},
	{name: "a refusal is taken for a limit", file: "internal/sender/head_retry.go", scenarios: 1,
		old: "case end.Reason.RejectsPeer(), end.Reported && end.Reason == wire.CloseOrderly, " +
			"end.Reason == wire.CloseTooLarge:", new: "case false:",
		more: []string{"|| now.Sub(s.since) < minHeadFailureTime", ""}},
	{name: "no acknowledgement after a read that filled its buffer", file: "internal/transport/in_read.go", scenarios: 1,
		old: "func (in *In) readAny() error {\n\tin.SendAck()\n",
		new: "func (in *In) readAny() error {\n\tif !in.attempt.bufferFilled {\n\t\tin.SendAck()\n\t}\n"},
	{name: "the limit of a reader that is gone sticks", file: "internal/sender/disconnect.go", scenarios: 1,
		old: "\tl.limit.Store(l.cfg.MessageLimit) // The next reader may accept more than this one.\n", new: ""},
	{name: "memory is taken out of turn", file: "pool.go", scenarios: 1,
		old: "\t\tt := u.waiters[0]\n", new: "\t\tt := u.waiters[len(u.waiters)-1]\n",
		more: []string{
			"u.waiters = slices.Delete(u.waiters, 0, 1)",
			"u.waiters = slices.Delete(u.waiters, len(u.waiters)-1, len(u.waiters))",
		}},
	{name: "a message that failed is forgotten with its connection",
		file: "internal/receiver/writer_states.go", scenarios: 1,
		old: "w.maybeHandledThrough = max(w.maybeHandledThrough, offered)",
		new: "w.maybeHandledThrough = max(w.maybeHandledThrough, handled)"},
	{name: "messages are dropped although that makes no room", file: "internal/queue/drop.go", scenarios: 455,
		old: "\treturn messages+count <= q.maxMessages && bytes+uint64(size) <= q.maxBytes && " +
			"q.fitsSharedLimitLocked(bytes, size)\n",
		new: "\treturn messages+bytes >= 0 && len(q.front.segs)+len(q.waiting.segs) > 0\n"},
	{name: "time alone drops nothing", file: "internal/queue/drop.go", scenarios: 1,
		old: "\tif q.maxAge == 0 || q.timerSet {\n", new: "\tif true {\n"},
	{name: "a flush does not hear of what is dropped", file: "internal/queue/wait.go", scenarios: 1,
		old: "\tpassed := q.removedThroughLocked()\n", new: "\tpassed := q.counts.Sent\n"},
	{name: "a batch is acknowledged before it is handled", file: "internal/transport/in_batch.go",
		old:  "\t\tin.session.unhandled = uint64(g.messages)\n",
		new:  "\t\tin.session.batchHandled.Store(in.session.Handled())\n",
		more: []string{"s.unhandled -= uint64(messages)", "_ = messages"}},
	{name: "what is behind a failing message of a batch is lost", file: "internal/receiver/batch_run.go",
		old: "\t\tc.batch.rest = *p\n", new: "\t\tc.batch.rest = *p\n\t\tc.acks.MarkBatchHandled(p.left)\n"},
	{name: "a batch is offered again from its second message on", file: "internal/receiver/batch_run.go",
		old: "\tfor seq := p.seq; seq",
		new: "\tif r.failed && messages > 1 {\n" +
			"\t\t_, frames = c.in.FirstMessage(frames)\n\t\tp.seq++\n\t\tmessages--\n\t}\n" +
			"\tfor seq := p.seq; seq"},
	// Of writers that go on in another process.
	{name: "the numbers go on where the writer believes", file: "internal/queue/resume.go", resumed: true,
		old: "q.seq = sequence{Acked: handled, sent: handled, HighestSent: max(q.seq.HighestSent, handled)}",
		new: "q.seq.HighestSent = max(q.seq.HighestSent, handled)"},
	{name: "a later reader moves the numbers on", file: "internal/queue/resume.go",
		test: "TestQueue_Resumes_WhereTheReaderSays", old: "|| r.welcomed ||", new: "||"},
	{name: "what an earlier process has sent is not marked", file: "internal/queue/resume.go", resumed: true,
		old: "HighestSent: max(sent, first-1)}", new: "HighestSent: first - 1}"},
	{name: "the epoch begins anew", file: "internal/sender/loop.go", resumed: true,
		old: "l.epoch.Store(max(cfg.Epoch, 1) - 1)", new: ""},
	{name: "what an earlier process has sent is dropped", file: "internal/queue/resume.go",
		test: "TestQueue_SentBefore_IsNotDropped", old: "\tq.moveToFrontLocked()\n", new: ""},
	{name: "a message that is given up loses its number", file: "internal/queue/acks.go",
		test: "TestQueue_OversizedInResumed_KeepsItsNumber", old: " || q.resumed.numbered; burnt", new: "; burnt"},
	{name: "a flush that is given up stays in line", file: "internal/queue/flush.go",
		test: "TestQueue_RandomHistories_KeepInvariants",
		old:  "\tif f.value.waiters--; f.value.waiters == 0 {\n\t\tq.flushers.remove(f)\n\t}\n", new: ""},
}

// TestMutants_Apply: each mutant changes the code as it is now.
func TestMutants_Apply(t *testing.T) {
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) { m.apply(t) })
	}
}

// TestMutants runs the model on broken code, which it must find out.
func TestMutants(t *testing.T) {
	if !*mutantsFlag {
		t.Skip("takes minutes; -model.mutants")
	}
	root, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			changed := filepath.Join(t.TempDir(), filepath.Base(m.file))
			write(t, changed, m.apply(t))
			replace, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, m.file): changed}})
			if err != nil {
				t.Fatal(err)
			}
			overlay := filepath.Join(t.TempDir(), "overlay.json")
			write(t, overlay, string(replace))
			test, seed, flags := "TestModel", uint64(1), []string{"-model.schedules", "20000", "-model.scenarios", "400"}
			switch {
			case m.scenarios > 0:
				test, seed = "TestModelScenarios", m.scenarios
			case m.resumed:
				test = "TestModelResumed"
			case m.test != "":
				test, flags = m.test, nil
			}
			args := []string{"test", "-overlay", overlay, "-vet=off", "-count=1", "-timeout=2m", "-run", "^" + test + "$"}
			pkg := "."
			if m.test == "" {
				flags = append(flags, "-model.seed", strconv.FormatUint(seed, 10))
			} else {
				pkg = filepath.Join(root, filepath.Dir(m.file))
			}
			cmd := exec.CommandContext(t.Context(), "go", append(append(args, pkg), flags...)...)
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
	b, err := os.ReadFile(filepath.Join(root, m.file))
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
