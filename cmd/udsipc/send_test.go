// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/spool"
)

// TestSend_Inputs_Arrive: lines, frames and files arrive as they are, with and without acknowledgements.
func TestSend_Inputs_Arrive(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("one\n\ntwo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, stdin string
		flags       []string
		want, count string
	}{
		{"lines", "a\n\nb\r\nc", nil, "a\n\nb\r\nc\n", "all of 4 messages arrived (4 B in "},
		{"files", "between\n", []string{file, "-", file}, "one\n\ntwo\nbetween\none\n\ntwo\n", "all of 7 messages"},
		{"null", "a\nb\x00c\x00", []string{"--null"}, "a\nb\nc\n", "all of 2 messages arrived"},
		{"frames", "\x01a\x00\x02bc", []string{"--frames"}, "a\n\nbc\n", "all of 3 messages arrived (3 B"},
		{"file", "", []string{"--file", file, file}, "one\n\ntwo\none\n\ntwo\n", "all of 2 messages"},
		{"file from the input", "a\nb\n", []string{"--file"}, "a\nb\n\n", "all of 1 message arrived"},
		{"split", "abcdefg\n", []string{"--max-message-size=3", "--long-lines=split"}, "abc\ndef\ng\n", "all of 3"},
		{"nothing", "", nil, "", "no messages"},
	} {
		for _, mode := range []string{"--ack=false", "--ack"} {
			t.Run(test.name+mode, func(t *testing.T) {
				address := socket(t)
				listener := start(t, nil, "listen", address)
				args := append([]string{"send", mode, address}, test.flags...)
				got := execute(t, strings.NewReader(test.stdin), args...)
				expect(t, got, exitOK, test.count)
				expect(t, listener.stop(t), exitOK, "")
				if out := listener.stdout.String(); out != test.want {
					t.Errorf("got %q, want %q", out, test.want)
				}
			})
		}
	}
}

// TestSend_Failures_AreTold: what does not arrive is in the exit code and the last line.
func TestSend_Failures_AreTold(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for _, test := range []struct {
		name, stdin string
		flags       []string
		code        int
		text, want  string
	}{
		{"long line", "a\nlonger\nb\n", []string{"--max-message-size=3"}, exitFailed,
			"line 2 is longer than 3 bytes (--long-lines, --max-message-size)\nudsipc send: all of 1 message arrived", "a\n"},
		{"skipped line", "a\nlonger\nb\n", []string{"--max-message-size=3", "--long-lines=skip"}, exitFailed,
			"all of 2 messages arrived (2 B in ", "a\nb\n"},
		{"missing file", "", []string{missing}, exitFailed, missing + ": no such file", ""},
		{"half a frame", "\x01a\x05bc", []string{"--frames"}, exitFailed,
			"within a frame; its first 2 bytes were not sent", "a\n"},
		{"large file", "large", []string{"--file", "--max-message-size=3"}, exitFailed,
			"the file is longer than 3 bytes", ""},
		{"quiet", "a\n", []string{"--quiet"}, exitOK, "", "a\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			address := socket(t)
			listener := start(t, nil, "listen", address)
			got := execute(t, strings.NewReader(test.stdin), append([]string{"send", address}, test.flags...)...)
			expect(t, got, test.code, test.text)
			if test.name == "quiet" && got.stderr != "" {
				t.Errorf("the errors are %q", got.stderr)
			}
			if test.name == "skipped line" && !strings.Contains(got.stderr, "1 lines left out as too long") {
				t.Errorf("the errors are %q", got.stderr)
			}
			listener.stop(t)
			if out := listener.stdout.String(); out != test.want {
				t.Errorf("got %q, want %q", out, test.want)
			}
		})
	}
}

func TestSend_Arguments_AreChecked(t *testing.T) {
	for args, want := range map[string]string{
		"":                            "ADDRESS is missing: udsipc send ADDRESS [FILE...]",
		"s --frames --file":           "exclude each other",
		"s --long-lines=cut":          "--long-lines cut: want error, split or skip",
		"s --overflow=wait":           "--overflow: want block",
		"s --spool-wait":              "--spool-wait needs --spool",
		"s --spool-size=5":            "need --spool",
		"s --spool-sync=0":            "need --spool",
		"s --spool=d --queue=5":       "--queue and --queue-bytes are for messages in memory",
		"s --timeout=-1s":             "want 0 or more",
		"s --max-message-size=0":      "--max-message-size 0",
		"s --tls-cert=x":              "--tls-cert and --tls-key need each other",
		"tcp://192.0.2.1:9":           "--plaintext",
		"s --tls-ca=/dev/null/no":     "--tls-ca",
		"s --queue=0":                 "--queue 0",
		"s --max-message-size=1apple": "not a size",
	} {
		got := execute(t, nil, append([]string{"send"}, strings.Fields(args)...)...)
		expect(t, got, exitUsage, want)
		expect(t, got, exitUsage, "udsipc help send tells more")
	}
}

// TestSend_EndlessInput_IsSentAtOnce: a line arrives before the next one is there. The first interrupt ends the input.
func TestSend_EndlessInput_IsSentAtOnce(t *testing.T) {
	address := socket(t)
	listener := start(t, nil, "listen", address)
	in, out := io.Pipe()
	sender := start(t, in, "send", "--ack", address)
	for _, line := range []string{"one\n", "two\n"} {
		if _, err := io.WriteString(out, line); err != nil {
			t.Fatal(err)
		}
		listener.awaitOutput(t, line)
	}
	expect(t, sender.stop(t), exitOK, "all of 2 messages arrived")
}

// TestSend_Interrupt_LeavesHalfALine: a line without its end at the interrupt is not sent, and told.
func TestSend_Interrupt_LeavesHalfALine(t *testing.T) {
	address := socket(t)
	listener := start(t, nil, "listen", address)
	in, out := io.Pipe()
	sender := start(t, in, "send", address)
	if _, err := io.WriteString(out, "whole\nhalf"); err != nil {
		t.Fatal(err)
	}
	listener.awaitOutput(t, "whole\n")
	expect(t, sender.stop(t), exitFailed, "within a line; its first 4 bytes were not sent")
	if got := listener.stop(t); got.stdout != "whole\n" {
		t.Errorf("got %q", got.stdout)
	}
}

// TestSend_NobodyListens_SecondInterruptEnds: the first interrupt waits for a reader, the second gives up.
func TestSend_NobodyListens_SecondInterruptEnds(t *testing.T) {
	t.Parallel() // It mostly waits.
	in, out := io.Pipe()
	sender := start(t, in, "send", "--ack", "--max-backoff=20ms", socket(t))
	if _, err := io.WriteString(out, "one\ntwo\n"); err != nil {
		t.Fatal(err)
	}
	sender.awaitError(t, "warning: ") // That nobody listens.
	sender.interrupt()
	out.Close()
	sender.awaitError(t, "waiting for 2 messages to arrive; another interrupt gives up\n")
	select {
	case <-sender.done:
		t.Fatal("it has ended after the first interrupt")
	default:
	}
	sender.force()
	expect(t, sender.wait(t), exitFailed, "0 of 2 messages arrived")
	expect(t, sender.wait(t), exitFailed, "2 given up")
	if errs := sender.stderr.String(); strings.Count(errs, "2 messages were not delivered: nobody listens") != 1 {
		t.Errorf("the errors are %s", errs)
	}
}

// TestSend_FullSpool_IsTold: a spool without room waits for its reader, but not in silence, and not beyond --timeout.
func TestSend_FullSpool_IsTold(t *testing.T) {
	flags := []string{"send", "--spool", filepath.Join(t.TempDir(), "spool"), "--spool-size=64KiB"}
	input := strings.Repeat(strings.Repeat("x", 1000)+"\n", 100)
	got := execute(t, strings.NewReader(input), append(flags, "--timeout=1200ms", socket(t))...)
	expect(t, got, exitFailed, "the spool has no room (--spool-size, or the disk is nearly full); waiting")
	expect(t, got, exitFailed, "gave up: nothing has arrived for 1.2s; there is no connection")
	expect(t, got, exitFailed, "the input had more")
}

func TestSend_Timeout_GivesUp(t *testing.T) {
	got := execute(t, strings.NewReader("one\n"), "send", "--timeout=20ms", socket(t))
	expect(t, got, exitFailed, "gave up: nothing has arrived for 20ms; there is no connection: udsipc doctor ")
	expect(t, got, exitFailed, "udsipc send: 0 of 1 message arrived")
}

// TestSend_Overflow_IsCounted: without a reader, the policies drop and count what the queue does not hold.
func TestSend_Overflow_IsCounted(t *testing.T) {
	for policy, want := range map[string]string{
		"drop-oldest": "0 of 5 messages arrived (10 B in ",
		"drop-newest": "0 of 5 messages arrived (10 B in ",
		"block":       "given up",
	} {
		got := execute(t, strings.NewReader("m1\nm2\nm3\nm4\nm5\n"), "send", "--queue=2", "--timeout=20ms",
			"--overflow", policy, socket(t))
		expect(t, got, exitFailed, want)
		if policy != "block" && !strings.Contains(got.stderr, "2 given up, 3 dropped as the "+policy[len("drop-"):]) {
			t.Errorf("%s: %s", policy, got.stderr)
		}
	}
}

// TestSend_Spool_GoesOnLater: messages wait in the spool for the next run.
func TestSend_Spool_GoesOnLater(t *testing.T) {
	address, dir := socket(t), filepath.Join(t.TempDir(), "spool")
	first := execute(t, strings.NewReader("one\ntwo\n"), "send", "--spool", dir, address)
	expect(t, first, exitSpooled, "0 of 2 messages arrived (6 B in ")
	expect(t, first, exitSpooled, "2 in the spool")
	listener := start(t, nil, "listen", address)
	second := execute(t, strings.NewReader("three\n"), "send", "--spool", dir, "--spool-wait", address)
	expect(t, second, exitOK, "all of 3 messages arrived (5 B in ")
	expect(t, second, exitOK, "; 2 of them found in the spool\n")
	if got := listener.stop(t); got.stdout != "one\ntwo\nthree\n" {
		t.Errorf("got %q", got.stdout)
	}
}

// TestSend_Progress_HasNumbers: without a terminal there is progress only if it is asked for.
func TestSend_Progress_HasNumbers(t *testing.T) {
	s := &sending{flags: &sendFlags{}}
	s.bytes.Store(5000)
	rates := meter{}
	begin := s.began
	s.status(counts{arrived: 100, connected: true}, &rates, begin)
	s.bytes.Store(25000)
	got := s.status(counts{arrived: 1100, queued: 20, queuedBytes: 1000}, &rates, begin.Add(1e9))
	want := "1.10 k messages, 24.0 kB, 1.00 k messages/s, 19.0 kB/s, queue 20 (1.00 kB), not connected"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestSend_TLS_Arrives: both ends with certificates, over TCP.
func TestSend_TLS_Arrives(t *testing.T) {
	ca, cert, key := certificateFiles(t)
	address := ipctest.TcpAddress(t)
	listener := start(t, nil, "listen", "--tls-cert", cert, "--tls-key", key, "--tls-ca", ca, "--json", address)
	got := execute(t, strings.NewReader("secret\n"), "send", "--ack", "--timeout=30s", "--tls-cert", cert, "--tls-key",
		key, "--tls-ca", ca, address)
	expect(t, got, exitOK, "all of 1 message arrived")
	if got := listener.stop(t); !strings.Contains(got.stdout, `"tls":"CN=`) {
		t.Errorf("got %q", got.stdout)
	}
}

// TestSend_SpoolOfAnother_Fails: a directory that is in use, or is none, is no wrong argument.
func TestSend_SpoolOfAnother_Fails(t *testing.T) {
	dir := t.TempDir()
	first, err := spool.NewWriter(filepath.Join(dir, "spool"), socket(t))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	got := execute(t, nil, "send", "--spool", filepath.Join(dir, "spool"), socket(t))
	expect(t, got, exitFailed, "spool is in use")
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, execute(t, nil, "send", "--spool", filepath.Join(dir, "file"), socket(t)), exitFailed, "file")
	expect(t, execute(t, nil, "send", "--spool", dir, "--spool-size=1", socket(t)), exitUsage, "--spool-size 1: want")
}

// TestSend_TimeoutWithinInput_IsNotSpooled: what is neither in the spool nor read is missing, also of an input that
// brings nothing more.
func TestSend_TimeoutWithinInput_IsNotSpooled(t *testing.T) {
	large := strings.Repeat(strings.Repeat("x", 1000)+"\n", 3000)
	got := execute(t, strings.NewReader(large), "send", "--spool", filepath.Join(t.TempDir(), "spool"),
		"--spool-size=1MiB", "--timeout=50ms", socket(t))
	expect(t, got, exitFailed, "the input had more")
	in, out := io.Pipe()
	defer out.Close()
	sender := start(t, in, "send", "--timeout=50ms", socket(t))
	_, _ = io.WriteString(out, "one\n")
	expect(t, sender.wait(t), exitFailed, "1 given up, the input had more")
}
