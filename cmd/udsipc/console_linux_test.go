// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"strings"
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestListen_Terminal_ObeysNoMessage: what a writer sends is shown on a terminal, and changes nothing else there.
func TestListen_Terminal_ObeysNoMessage(t *testing.T) {
	for _, format := range []string{"", "--json", "--raw"} {
		tty, program := ipctest.OpenTerminal(t, 200, 24)
		user, address := &userSide{File: tty}, socket(t)
		args := strings.Fields("listen " + format + " " + address)
		listener := startWith(t, &env{stdout: program}, args...)
		sent := execute(t, strings.NewReader("\x1b]0;title\a \u009b2J end\n"), "send", "--ack", address)
		expect(t, sent, exitOK, "all of 1")
		if shown := user.await(t, "end"); strings.ContainsAny(shown, "\x1b\a\u009b") ||
			!strings.Contains(shown, `\u001b]0;title\u0007 \u009b2J end`) {
			t.Errorf("%s: the terminal got %q", format, shown)
		}
		expect(t, listener.stop(t), exitOK, "")
	}
}

// TestConsole_NarrowTerminal_KeepsOneLine: a line of progress does not scroll the terminal.
func TestConsole_NarrowTerminal_KeepsOneLine(t *testing.T) {
	tty, program := ipctest.OpenTerminal(t, 20, 5)
	user := &userSide{File: tty}
	c := &console{name: "send", out: program, redraw: true}
	c.progress("0123456789012345678 and more")
	c.logf("a line with \x1b[2J")
	shown := user.await(t, "[2J\r\n")
	if want := clearLine + "0123456789012345678" + clearLine +
		`udsipc send: a line with \u001b[2J` + "\r\n"; shown != want {
		t.Errorf("the terminal got %q, want %q", shown, want)
	}
}

// TestSend_TypedInput_IsNotOverwritten: there is no progress between lines that are typed, but for files.
func TestSend_TypedInput_IsNotOverwritten(t *testing.T) {
	_, program := ipctest.OpenTerminal(t, 80, 24)
	e := &env{stdin: program, stderr: program, getenv: func(string) string { return "xterm" }}
	for args, want := range map[string]bool{"s": false, "s -": false, "s file": true, "s file -": false} {
		e.args = strings.Fields(args)
		s := &sending{flags: &sendFlags{}, env: e, console: e.console()}
		if got := s.showsProgress(); got != want {
			t.Errorf("%s: %v", args, got)
		}
	}
}

// TestSend_SilentReader_IsNotArrival: what the kernel has and the reader never reads is told at the end of --timeout.
func TestSend_SilentReader_IsNotArrival(t *testing.T) {
	address := socket(t)
	listener, err := net.Listen("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() // The connection waits in its backlog.
	got := execute(t, strings.NewReader("one\ntwo\n"), "send", "--timeout=50ms", address)
	expect(t, got, exitFailed, "gave up: nothing has arrived for 50ms\n")
	expect(t, got, exitFailed, "0 of 2 messages arrived")
	expect(t, got, exitFailed, "2 perhaps not read")
}
