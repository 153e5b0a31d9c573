// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/ipctest"
)

// A userSide is the user's side of a terminal.
type userSide struct {
	*os.File
	seen strings.Builder // All that was shown.
}

// await reads until the terminal has shown a text, and returns what came since the last call.
func (u *userSide) await(t *testing.T, text string) string {
	t.Helper()
	if err := u.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	from := u.seen.Len()
	buf := make([]byte, 4096)
	for {
		n, err := u.Read(buf)
		u.seen.Write(buf[:n])
		if since := u.seen.String()[from:]; strings.Contains(since, text) {
			return since
		}
		if err != nil {
			t.Fatalf("no %q, %v, in %q", text, err, u.seen.String()[from:])
		}
	}
}

func (u *userSide) press(t *testing.T, keys string) {
	t.Helper()
	if _, err := u.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// startTop runs top on a terminal of this size.
func startTop(t *testing.T, columns, rows uint16, args ...string) (user *userSide, program *os.File,
	end context.CancelFunc, code <-chan int) {
	t.Helper()
	tty, program := ipctest.OpenTerminal(t, columns, rows)
	ctx, end := context.WithCancel(t.Context())
	t.Cleanup(end)
	ended := make(chan int, 1)
	e := &env{stdin: program, stdout: program, stderr: program, force: t.Context(),
		getenv: func(string) string { return "xterm" }}
	go func() { ended <- run(ctx, e, append([]string{"top", "--interval", "1h"}, args...)) }() // Ends with q or end.
	return &userSide{File: tty}, program, end, ended
}

// TestTop_Terminal_IsRestored after q, after a signal, and after a panic.
func TestTop_Terminal_IsRestored(t *testing.T) {
	folder := private(t)
	exchange(t)
	for what, finish := range map[string]func(user *userSide, end context.CancelFunc){
		"q":      func(user *userSide, _ context.CancelFunc) { user.press(t, "q") },
		"signal": func(_ *userSide, end context.CancelFunc) { end() },
	} {
		t.Run(what, func(t *testing.T) {
			user, program, end, code := startTop(t, 100, 20, "--directory", folder)
			user.await(t, "the-writer")
			if ipctest.TerminalModes(t, program).Lflag&(syscall.ICANON|syscall.ECHO) != 0 {
				t.Error("keys are read as lines, or shown")
			}
			finish(user, end)
			if got := ipctest.Await(t, "the end", code); got != exitOK {
				t.Errorf("exit code %d", got)
			}
			user.await(t, leaveScreen)
			if modes := ipctest.TerminalModes(t, program); modes.Lflag&syscall.ICANON == 0 || modes.Lflag&syscall.ECHO == 0 {
				t.Error("the terminal has other modes than before")
			}
			if !strings.HasPrefix(user.seen.String(), enterScreen) {
				t.Errorf("shown: %q", user.seen.String())
			}
		})
	}
	t.Run("panic", func(t *testing.T) {
		tty, program := ipctest.OpenTerminal(t, 100, 20)
		user := &userSide{File: tty}
		broken := &top{sampler: newSampler(), interval: time.Hour, sort: "no such column"}
		defer broken.sampler.close()
		e := &env{stdin: program, stdout: program, stderr: program, getenv: func(string) string { return "xterm" }}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			broken.onTerminal(t.Context(), e)
		}()
		user.await(t, leaveScreen)
		if ipctest.TerminalModes(t, program).Lflag&syscall.ICANON == 0 {
			t.Error("the terminal has other modes than before")
		}
	})
}

// TestTop_Keys_ChangeTheTable: without a new sample.
func TestTop_Keys_ChangeTheTable(t *testing.T) {
	folder := private(t)
	exchange(t)
	user, _, _, code := startTop(t, 100, 20, "--directory", folder, "--sort", "name")
	order := func(screen string) bool {
		screen = screen[strings.LastIndex(screen, cursorHome):]
		return strings.Index(screen, "the-reader") < strings.Index(screen, "the-writer")
	}
	if !order(user.await(t, clearBelow)) {
		t.Error("not sorted by name")
	}
	user.press(t, "r")
	if order(user.await(t, clearBelow)) {
		t.Error("not reversed")
	}
	user.press(t, "w")
	user.await(t, "from connection 1")
	user.press(t, "h")
	user.await(t, "c connections, l latency")
	user.press(t, "n")
	if !order(user.await(t, clearBelow)) {
		t.Error("not sorted by name again")
	}
	user.press(t, " x") // Another sample, and no key.
	user.await(t, clearBelow)
	user.press(t, "q")
	if got := ipctest.Await(t, "the end", code); got != exitOK {
		t.Errorf("exit code %d", got)
	}
}

// TestTop_SmallTerminal_IsNotOverrun: no line is longer than the terminal, and there are no more lines than rows.
func TestTop_SmallTerminal_IsNotOverrun(t *testing.T) {
	folder := private(t)
	exchange(t)
	user, _, _, _ := startTop(t, 40, 5, "--directory", folder, "--who")
	screen := user.await(t, "and 2 more lines"+clearRest+clearBelow)
	screen = strings.NewReplacer(enterScreen, "", cursorHome, "", clearRest, "", clearBelow, "", reverseOn, "",
		reverseOff, "").Replace(screen)
	lines := strings.Split(strings.ReplaceAll(screen, "\r", ""), "\n")
	for _, line := range lines {
		if len([]rune(line)) > 40 {
			t.Errorf("a line of %d columns: %q", len([]rune(line)), line)
		}
	}
	if len(lines) != 5 {
		t.Errorf("%d lines: %q", len(lines), lines)
	}
}

// TestTop_Signals_OfTheTerminal: another size, ^Z and its end, ^C, and a terminal that is closed.
func TestTop_Signals_OfTheTerminal(t *testing.T) {
	folder := private(t)
	exchange(t)
	tty, program := ipctest.OpenTerminal(t, 150, 20)
	before := ipctest.TerminalModes(t, program)
	user := &userSide{File: tty}
	launch := func() (*exec.Cmd, <-chan error) {
		cmd := process(t, "top", "--interval", "1h", "--directory", folder)
		cmd.Env = append(cmd.Env, "TERM=xterm")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = program, program, program
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
		return cmd, startProcess(t, cmd)
	}
	cmd, done := launch()
	if got := user.await(t, clearBelow); !strings.Contains(got, "PROGRAM") {
		t.Errorf("a wide table of %q", got)
	}
	ipctest.ResizeTerminal(t, tty, 80, 10)
	if got := user.await(t, clearBelow); strings.Contains(got, "PROGRAM") || !strings.Contains(got, "the-writer") {
		t.Errorf("a narrow table of %q", got)
	}
	user.press(t, "\x1a") // ^Z
	user.await(t, leaveScreen)
	ipctest.Until(t, "the process has stopped", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		return err == nil && strings.Contains(string(stat), ") T ")
	})
	if modes := ipctest.TerminalModes(t, program); modes != before {
		t.Error("a stopped top keeps the terminal")
	}
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if got := user.await(t, clearBelow); !strings.Contains(got, enterScreen) {
		t.Errorf("after it goes on: %q", got)
	}
	user.press(t, "\x03") // ^C
	if err := ipctest.Await(t, "the end", done); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if modes := ipctest.TerminalModes(t, program); modes != before {
		t.Error("the terminal has other modes than before")
	}
	user.await(t, leaveScreen)

	cmd, done = launch()
	user.await(t, clearBelow)
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if err := ipctest.Await(t, "the end", done); err != nil {
		t.Errorf("it ended with %v", err)
	}
	user.await(t, leaveScreen)
}

// TestTop_BrokenPipe_Ends as other Unix tools do.
func TestTop_BrokenPipe_Ends(t *testing.T) {
	folder := private(t)
	exchange(t)
	cmd := process(t, "top", "--json", "--interval", "100ms", "--directory", folder)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	done := startProcess(t, cmd)
	if line, err := bufio.NewReader(out).ReadString('\n'); !strings.HasPrefix(line, `{"path":"`+folder) {
		t.Errorf("%q, %v", line, err)
	}
	out.Close()
	var exit *exec.ExitError
	if err := ipctest.Await(t, "the end", done); !errors.As(err, &exit) ||
		exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGPIPE {
		t.Errorf("it ended with %v", err)
	}
}
