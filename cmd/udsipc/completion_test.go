// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// program returns the path of a program that a test needs. Without it the test is skipped, but not in CI.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	return path
}

// completionFile returns the file with the completions for a shell.
func completionFile(t *testing.T, shell string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "completion")
	if err := os.WriteFile(path, []byte(execute(t, nil, "completion", shell).stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// outputOf returns what a command writes; a complaint is an error.
func outputOf(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Errorf("%v: %v: %s%s", cmd.Args[0], err, text, stderr.String())
	}
	return string(text)
}

func TestCompletion_Bash_Completes(t *testing.T) {
	bash, file := program(t, "bash"), completionFile(t, "bash")
	for typed, want := range map[string]string{
		"li":                 "listen",
		"--v":                "--version",
		"send --spool-":      "--spool-size --spool-sync --spool-wait",
		"listen -":           strings.Join(flagNames(&listenCommand), " "),
		"help ca":            "call",
		"completion ":        "bash zsh fish",
		"send --spool ":      "", // bash completes the names of files.
		"no-such-command --": "",
	} {
		script := `source "$1"; COMP_WORDS=(udsipc "${@:2}"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _udsipc; ` +
			`echo "${COMPREPLY[@]}"`
		cmd := exec.Command(bash, append([]string{"-c", script, "bash", file}, strings.Split(typed, " ")...)...)
		if got := strings.TrimSpace(outputOf(t, cmd)); got != want {
			t.Errorf("%q: %s, want %s", typed, got, want)
		}
	}
}

func flagNames(c *command) []string {
	names := []string{"--help"}
	for _, f := range c.flags() {
		names = append(names, "--"+f.name)
	}
	return names
}

func TestCompletion_Fish_Completes(t *testing.T) {
	fish, file := program(t, "fish"), completionFile(t, "fish")
	for typed, want := range map[string]string{
		"udsipc lis":           "listen",
		"udsipc send --spool-": "--spool-size --spool-sync --spool-wait",
		"udsipc completion f":  "fish",
	} {
		cmd := exec.Command(fish, "--no-config", "-c", "source $argv[1]; complete -C $argv[2]", file, typed)
		var got []string
		for line := range strings.Lines(outputOf(t, cmd)) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			got = append(got, word)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %q, want %s", typed, got, want)
		}
	}
}

// TestCompletion_Zsh_Completes: zsh itself completes only for a terminal; what it would be given is looked at.
func TestCompletion_Zsh_Completes(t *testing.T) {
	zsh, file := program(t, "zsh"), completionFile(t, "zsh")
	script := `_describe() { print -r -- "${(@P)2}" }; _arguments() { print -rl -- "$@" }
		words=(udsipc "${@:2}"); CURRENT=$#words; _udsipc() { source "$file" }; file=$1; _udsipc`
	for typed, want := range map[string]string{
		"s":                "send:send lines, frames or files to a reader",
		"send --spool-":    "--spool-size=[the largest SIZE of the spool (default 1GiB)]:size:_files",
		"help s":           "*:argument:(send listen",
		"send addr /etc/p": "*:argument:_files",
	} {
		cmd := exec.Command(zsh, append([]string{"-f", "-c", script, "zsh", file}, strings.Split(typed, " ")...)...)
		if got := outputOf(t, cmd); !strings.Contains(got, want) {
			t.Errorf("%q: %s, want %s", typed, got, want)
		}
	}
}

func TestCompletion_OtherShell_IsRefused(t *testing.T) {
	expect(t, execute(t, nil, "completion", "tcsh"), exitUsage, `no completions for "tcsh"`)
}

// TestMan_Page_IsValid: mandoc has nothing to complain about, and shows each command and flag.
func TestMan_Page_IsValid(t *testing.T) {
	page := execute(t, nil, "man").stdout
	mandoc := program(t, "mandoc")
	lint := exec.Command(mandoc, "-T", "lint", "-W", "style")
	lint.Stdin = strings.NewReader(page)
	if text := outputOf(t, lint); text != "" {
		t.Error(text)
	}
	show := exec.Command(mandoc, "-T", "ascii", "-O", "width=200")
	show.Stdin = strings.NewReader(page)
	text := outputOf(t, show)
	for i := strings.IndexByte(text, '\b'); i > 0; i = strings.IndexByte(text, '\b') { // Bold and underlined ones.
		text = text[:i-1] + text[i+1:]
	}
	for _, c := range listed() {
		for _, f := range c.flags() {
			if !strings.Contains(text, f.form()) {
				t.Errorf("%s has no %s", c.name, f.form())
			}
		}
		for _, x := range c.examples {
			if !strings.Contains(text, x.line) {
				t.Errorf("%s has no %s", c.name, x.line)
			}
		}
	}
}
