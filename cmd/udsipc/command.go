// SPDX-License-Identifier: Apache-2.0

package main

// This file is what a command is made of, and what it runs in.

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math"
	"os/exec"
	"strings"
)

// The exit codes that all commands have in common. A command may have more (command.exits).
const (
	exitOK     = 0 // All arrived, or what was asked for was done.
	exitFailed = 1 // Not all arrived, or it failed.
	exitUsage  = 2 // The arguments cannot be; nothing was done.
)

// A command is a row of the table of commands. Its help, its completions and its part of the man page are made of it.
type command struct {
	name     string
	summary  string    // What it does, in a few words: lower case, no full stop.
	operands string    // What stands behind the flags, such as "ADDRESS [FILE...]".
	help     string    // Paragraphs of one fact a sentence, with an empty line between them; no line over 78 columns.
	examples []example // The first one is what most users want.
	exits    []exit    // What the exit codes mean here; without one, the common meaning.
	hidden   bool      // Neither listed nor completed: for the program itself.

	// setup defines the flags and returns the function that runs the command with their values. The usage of a
	// flag has the name of its value in backquotes, and its unit; the default is added to it.
	setup func(flags *flag.FlagSet) runner
}

// A runner runs a command and returns its exit code. ctx ends with the first interrupt: end in good order then, and
// at once when the context env.force ends.
type runner func(ctx context.Context, e *env) int

type example struct{ line, what string }

type exit struct {
	code int
	what string
}

// An env is what a command runs in.
type env struct {
	name           string   // Of the command, for its messages.
	args           []string // The operands.
	stdin          io.Reader
	stdout, stderr io.Writer
	force          context.Context // Ends with the second interrupt.
	getenv         func(name string) string

	// self returns a command that runs this program in a process of its own.
	self func(ctx context.Context, args ...string) *exec.Cmd

	brokenPipe bool // Set if nobody reads the standard output any more: the process ends by SIGPIPE.
}

// logf writes a line to the standard error, with the name of the command before it.
func (e *env) logf(format string, args ...any) {
	fmt.Fprintf(e.stderr, "udsipc %s: %s\n", e.name, visibleText(withFlags(e.name, fmt.Sprintf(format, args...))))
}

// fail reports an error and returns the exit code for it.
func (e *env) fail(err error) int {
	e.logf("%s", plain(err))
	return exitFailed
}

// usage reports an error of the arguments and returns the exit code for it.
func (e *env) usage(err error) int {
	e.logf("%s; udsipc help %s tells more", plain(err), e.name)
	return exitUsage
}

// plain returns the text of an error without the name that the messages have already.
func plain(err error) string {
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "udsipc: "), "udsipc/rpc: ")
}

// operandCount returns how many operands the command takes at least and at most.
func (c *command) operandCount() (least, most int) {
	for _, word := range strings.Fields(c.operands) {
		if !strings.HasPrefix(word, "[") {
			least++
		}
		if most++; strings.Contains(word, "...") {
			return least, math.MaxInt
		}
	}
	return least, most
}
