// SPDX-License-Identifier: Apache-2.0

package main

// This file runs the commands of docs/TOOL.md: each block of sh, in the order of the page. A comment right above a
// block says what is special:
//
//	<!-- background -->      it runs until the end of its section, and is interrupted then
//	<!-- exit: 3 -->         it ends with this code, not with 0
//	<!-- server: ADDRESS --> a server with methods listens there
//	<!-- needs: PROGRAM -->  it is left out where that program is missing, but not in CI
//	<!-- journal -->         another test runs it, under a systemd of its own (internal/systemd)

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/udsipc/udsipc/codec"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/rpc"
)

// A docBlock is a block of the page.
type docBlock struct {
	section, language, text string
	line                    int
	notes                   map[string]string
}

var notePattern = regexp.MustCompile(`^<!-- ([a-z]+)(?:: (.*))? -->$`)

// docBlocks returns the blocks of a page.
func docBlocks(t *testing.T, page string) (list []docBlock) {
	t.Helper()
	var open *docBlock
	section, notes := "", map[string]string{}
	for i, line := range strings.Split(string(ipctest.ReadFile(t, page)), "\n") {
		note := notePattern.FindStringSubmatch(line)
		switch {
		case open != nil && line == "```":
			list, open = append(list, *open), nil
			notes = map[string]string{}
		case open != nil:
			open.text += line + "\n"
		case strings.HasPrefix(line, "```"):
			open = &docBlock{section: section, language: line[3:], line: i + 1, notes: notes}
		case note != nil:
			notes[note[1]] = note[2]
		case strings.HasPrefix(line, "#"):
			section = line
		}
	}
	return list
}

// A docShell runs blocks below a directory that stands for the root.
type docShell struct {
	root       string
	background []*exec.Cmd
}

// rooted are the directories that blocks write to, and those that a test has instead.
var rooted = regexp.MustCompile(`(^|[\s>='"])(/run|/var|/usr/local|/usr/share/fish|/etc/bash_completion\.d)/`)

func newDocShell(t *testing.T) *docShell {
	t.Helper()
	root, err := os.MkdirTemp("", "doc") // Shorter than TempDir: the path of a socket is limited.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	for _, dir := range []string{
		"bin", "run", "var/log", "var/spool", "etc/bash_completion.d", "usr/share/fish/vendor_completions.d",
		"usr/local/share/man", "usr/local/share/zsh/site-functions",
	} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(root, "bin", "udsipc")); err != nil {
		t.Fatal(err)
	}
	shell := &docShell{root: root}
	t.Cleanup(func() { shell.interrupt(t) })
	return shell
}

// command returns a block as a command, in a process group of its own.
func (s *docShell) command(t *testing.T, text string) (*exec.Cmd, *bytes.Buffer) {
	text = rooted.ReplaceAllString(text, "${1}"+s.root+"${2}/")
	text = strings.ReplaceAll(text, " @ready", " @"+filepath.Base(s.root)) // An abstract name is the machine's.
	cmd := process(t)
	cmd.Path, cmd.Args = program(t, "bash"), []string{"bash", "-euo", "pipefail", "-c", text}
	cmd.Dir = s.root
	cmd.Env = append(cmd.Env, "PATH="+filepath.Join(s.root, "bin")+":"+os.Getenv("PATH"),
		"XDG_RUNTIME_DIR="+filepath.Join(s.root, "run")) // Where --publish publishes.
	cmd.SysProcAttr.Setpgid = true
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	return cmd, &out
}

// interruptedEarly is the code of a shell with a program that did not know of signals yet: nothing waits for the second
// one of a pipeline.
const interruptedEarly = 128 + int(syscall.SIGINT)

// interrupt ends what runs in the background, as Ctrl-C does. What was started last may need the others.
func (s *docShell) interrupt(t *testing.T) {
	for _, cmd := range slices.Backward(s.background) {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
		err := cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code > 0 && code != interruptedEarly {
			t.Errorf("%v: %v: %s", cmd.Args, err, cmd.Stdout)
		}
	}
	s.background = nil
}

// run runs a block.
func (s *docShell) run(t *testing.T, block docBlock) {
	t.Helper()
	if address, ok := block.notes["server"]; ok {
		s.interrupt(t)
		defer s.serve(t, address)()
	}
	cmd, out := s.command(t, block.text)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, ok := block.notes["background"]; ok {
		s.background = append(s.background, cmd)
		return
	}
	_ = cmd.Wait()
	want, _ := strconv.Atoi(block.notes["exit"])
	if code := cmd.ProcessState.ExitCode(); code != want {
		t.Errorf("line %d ends with code %d, want %d:\n%s%s", block.line, code, want, block.text, out)
	}
}

// serve starts the server that the page calls. The returned function ends it.
func (s *docShell) serve(t *testing.T, address string) func() {
	t.Helper()
	server, err := rpc.NewServer(filepath.Join(s.root, address))
	if err != nil {
		t.Fatal(err)
	}
	type path struct {
		Path string `json:"path"`
	}
	stat := rpc.NewMethod("stat", codec.JSON[path](), codec.JSON[json.RawMessage]())
	stat.Handle(server, func(_ context.Context, p path) (json.RawMessage, error) {
		info, err := os.Stat(p.Path)
		if err != nil {
			return nil, err
		}
		return json.RawMessage(fmt.Sprintf(`{"mode":%q}`, info.Mode())), nil
	})
	server.Handle("health", func(context.Context, []byte) ([]byte, error) { return []byte("ok"), nil })
	server.HandleStream("watch", func(_ context.Context, s *rpc.Stream) error { return s.Send([]byte("an event")) })
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestDocs_Commands_Run runs the commands of the page.
func TestDocs_Commands_Run(t *testing.T) {
	t.Parallel() // It mostly waits.
	shell := newDocShell(t)
	section, ran := "", 0
	for _, block := range docBlocks(t, "docs/TOOL.md") {
		if block.section != section {
			shell.interrupt(t)
			section = block.section
		}
		if _, elsewhere := block.notes["journal"]; block.language != "sh" || elsewhere {
			continue
		}
		if name, ok := block.notes["needs"]; ok && !available(t, name) {
			continue
		}
		if ran++; strings.HasPrefix(block.text, "go install ") { // It is what is tested here, installed.
			_, block.text, _ = strings.Cut(block.text, "\n")
		}
		shell.run(t, block)
	}
	if ran < 10 {
		t.Errorf("the page has %d blocks", ran)
	}
}

// available reports whether a program is there, which must be so in CI.
func available(t *testing.T, name string) bool {
	_, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") == "true" {
		t.Error(err)
	}
	return err == nil
}

// TestDocs_Flags_Exist: each flag that the page names is one of some command.
func TestDocs_Flags_Exist(t *testing.T) {
	known := map[string]bool{}
	for _, c := range commands {
		for _, f := range c.flags() {
			known["--"+f.name] = true
		}
	}
	page := string(ipctest.ReadFile(t, "docs/TOOL.md"))
	for _, flag := range regexp.MustCompile(`--[a-z][a-z-]+`).FindAllString(page, -1) {
		if !known[flag] {
			t.Errorf("there is no flag %s", flag)
		}
	}
}
