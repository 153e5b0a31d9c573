// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestListen_JSON_HasOrigin: a line has the peer, the writer, the number, and the data as text or base64.
func TestListen_JSON_HasOrigin(t *testing.T) {
	address := socket(t)
	listener := start(t, nil, "listen", "--json", address)
	expect(t, execute(t, strings.NewReader("<a>\n\xff\n\n"), "send", "--ack", address), exitOK, "")
	expect(t, execute(t, strings.NewReader("plain\n"), "send", address), exitOK, "")
	var lines []deliveryLine
	for line := range strings.Lines(listener.stop(t).stdout) {
		var got deliveryLine
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		lines = append(lines, got)
	}
	if len(lines) != 4 {
		t.Fatalf("%d lines", len(lines))
	}
	for i, want := range []string{"<a>", "", "", "plain"} {
		got := lines[i]
		if text := got.Data; (text == nil) != (i == 1) || text != nil && *text != want || got.Time.IsZero() {
			t.Errorf("line %d: %+v", i, got)
		}
		if inSession := i < 3; (len(got.Writer) == 32) != inSession || got.Redelivered ||
			inSession && got.Seq != uint64(i+1) || !inSession && got.Seq != 1 {
			t.Errorf("line %d: %+v", i, got)
		}
		if p := got.Peer; ipctest.TellsCredentials && (p.PID == nil || *p.PID != os.Getpid() || *p.UID != os.Getuid()) {
			t.Errorf("line %d has the peer %+v", i, got.Peer)
		}
	}
	if string(lines[1].Base64) != "\xff" || lines[0].Peer.ID == lines[3].Peer.ID {
		t.Errorf("got %+v", lines)
	}
}

// TestListen_Raw_IsForSend: what listen --raw writes, send --frames reads.
func TestListen_Raw_IsForSend(t *testing.T) {
	first, second := socket(t), socket(t)
	raw := start(t, nil, "listen", "--raw", first)
	expect(t, execute(t, strings.NewReader("a\nb\x00\x00"), "send", "--null", first), exitOK, "all of 2")
	frames := raw.stop(t).stdout
	if want := "\x03a\nb\x00"; frames != want {
		t.Fatalf("got %q, want %q", frames, want)
	}
	listener := start(t, nil, "listen", second)
	expect(t, execute(t, strings.NewReader(frames), "send", "--frames", second), exitOK, "all of 2")
	if got := listener.stop(t).stdout; got != "a\nb\n\n" {
		t.Errorf("got %q", got)
	}
}

// TestListen_Count_IsExact: no message beyond the last one is acknowledged, and none before it comes again.
func TestListen_Count_IsExact(t *testing.T) {
	address := socket(t)
	sender := start(t, strings.NewReader("1\n2\n3\n4\n5\n"), "send", "--ack", address)
	for _, want := range []string{"1\n2\n", "3\n", "4\n5\n"} {
		got := execute(t, nil, "listen", fmt.Sprintf("--count=%d", strings.Count(want, "\n")), address)
		expect(t, got, exitOK, "")
		if got.stdout != want {
			t.Errorf("got %q, want %q", got.stdout, want)
		}
	}
	expect(t, sender.wait(t), exitOK, "all of 5 messages")
}

func TestListen_Arguments_AreChecked(t *testing.T) {
	for args, want := range map[string]string{
		"":                             "ADDRESS is missing: udsipc listen ADDRESS",
		"s t":                          `there is no argument for "t"`,
		"s --json --raw":               "exclude each other",
		"s --mode=rw":                  "want an octal number",
		"s --mode=1777":                "--mode",
		"s --group=no-such-group":      "--group no-such-group",
		"s --keep=1":                   "need --append",
		"s --append=f --keep=1":        "--keep needs --rotate-size or --rotate-every",
		"s --append=f --keep=-1":       "want 0 or more",
		"s --append=f --rotate-every=": `--rotate-every "": want a duration with its unit, such as 30s`,
		"s --tls-ca=f":                 "a server has a certificate",
		"s --max-connections=0":        "--max-connections 0",
	} {
		got := execute(t, nil, append([]string{"listen"}, strings.Fields(args)...)...)
		expect(t, got, exitUsage, want)
	}
}

func TestListen_SocketInUse_Fails(t *testing.T) {
	address := socket(t)
	first := start(t, nil, "listen", "--mode=0660", address)
	ipctest.Until(t, "the socket is there", func() bool {
		info, err := os.Stat(address)
		return err == nil && info.Mode().Perm() == 0o660
	})
	expect(t, execute(t, nil, "listen", address), exitFailed, "in use")
	expect(t, first.stop(t), exitOK, "")
}

// A fullWriter is a disk without room: it takes some bytes, and then none for some writes.
type fullWriter struct {
	syncBuffer
	room  int
	fails int
}

func (w *fullWriter) Write(p []byte) (int, error) {
	if len(p) <= w.room || w.fails == 0 {
		w.room = max(0, w.room-len(p))
		return w.syncBuffer.Write(p)
	}
	w.fails--
	n, _ := w.syncBuffer.Write(p[:w.room])
	w.room = 0
	return n, &os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC}
}

// TestListen_FullDisk_IsRetried: nothing is missing or doubled after the disk was full in the middle of a line.
func TestListen_FullDisk_IsRetried(t *testing.T) {
	address := socket(t)
	disk := &fullWriter{room: 7, fails: 2}
	listener := startWith(t, &env{stdout: disk}, "listen", address)
	expect(t, execute(t, strings.NewReader("one\ntwo\nthree\n"), "send", "--ack", address), exitOK, "all of 3")
	got := listener.stop(t)
	expect(t, got, exitOK, "no space left on device; nothing is acknowledged until there is room")
	expect(t, got, exitOK, "there is room again")
	if out := disk.String(); out != "one\ntwo\nthree\n" {
		t.Errorf("got %q", out)
	}
}

// TestListen_FailingOutput_AcknowledgesNothing: what could not be written goes to the next listener.
func TestListen_FailingOutput_AcknowledgesNothing(t *testing.T) {
	for name, cause := range map[string]error{"disk": errors.New("device gone"), "pipe": syscall.EPIPE} {
		t.Run(name, func(t *testing.T) {
			address := socket(t)
			in, out := io.Pipe()
			in.CloseWithError(cause)
			sender := start(t, strings.NewReader("one\ntwo\n"), "send", "--ack", address)
			failing := startWith(t, &env{stdout: out}, "listen", address)
			got := failing.wait(t)
			if expect(t, got, exitFailed, ""); failing.env.brokenPipe != (name == "pipe") {
				t.Errorf("broken pipe: %v", failing.env.brokenPipe)
			}
			if name == "disk" {
				expect(t, got, exitFailed, "device gone")
			} else if got.stderr != "" {
				t.Errorf("the errors are %q", got.stderr)
			}
			next := start(t, nil, "listen", address)
			expect(t, sender.wait(t), exitOK, "all of 2")
			if got := next.stop(t).stdout; got != "one\ntwo\n" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestListen_FullDisk_SecondInterruptEnds: what is not written at the second interrupt stays with the writer.
func TestListen_FullDisk_SecondInterruptEnds(t *testing.T) {
	address, dir := socket(t), t.TempDir()
	listener := startWith(t, &env{stdout: &fullWriter{fails: 1 << 30}}, "listen", address)
	spool := filepath.Join(dir, "spool")
	awaitListener(t, address) // send would leave the message in the spool.
	sender := start(t, strings.NewReader("one\n"), "send", "--spool", spool, address)
	listener.awaitError(t, "no space left")
	listener.interrupt()
	listener.force()
	expect(t, listener.wait(t), exitFailed, "no space left on device")
	sender.interrupt()
	sender.force()
	expect(t, sender.wait(t), exitSpooled, "1 in the spool")
}

// TestListen_RotateSize_HoldsForBatches: messages that come together are divided among files.
func TestListen_RotateSize_HoldsForBatches(t *testing.T) {
	const size = 500
	address, dir := socket(t), t.TempDir()
	var lines strings.Builder
	for i := range 1000 {
		fmt.Fprintln(&lines, "message", i)
	}
	sender := start(t, strings.NewReader(lines.String()), "send", "--ack", address)
	listener := start(t, nil, "listen", "--append", filepath.Join(dir, "f"), "--sync=false",
		"--rotate-size", strconv.Itoa(size), address)
	expect(t, sender.wait(t), exitOK, "all of 1000")
	expect(t, listener.stop(t), exitOK, "")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err != nil || info.Size() > size {
			t.Errorf("%s has %d bytes, %v, want at most %d", entry.Name(), info.Size(), err, size)
		}
	}
	if len(entries) < lines.Len()/size {
		t.Errorf("there are %d files", len(entries))
	}
}

// TestVisible_Texts: a terminal shows what a peer has sent; JSON means the same as before.
func TestVisible_Texts(t *testing.T) {
	for text, want := range map[string]string{
		"a b\tc\n": "a b\tc\n", "grüße, 世界": "grüße, 世界", "\x1b]0;title\a": `\u001b]0;title\u0007`, "a\rb": `a\u000db`,
		"\u009b2J": `\u009b2J`, "\x7f": `\u007f`, "\xff": `\xff`, "\u202e": `\u202e`, "\U000e0041": `\udb40\udc41`,
		"\x00": `\u0000`,
	} {
		if got := visibleText(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
		quoted, err := json.Marshal(text)
		var back string
		if err == nil {
			err = json.Unmarshal([]byte(visibleText(string(quoted))), &back)
		}
		if utf8.ValidString(text) && (back != text || err != nil) {
			t.Errorf("%q is %q as JSON, %v", text, back, err)
		}
	}
}
