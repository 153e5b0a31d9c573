// SPDX-License-Identifier: Apache-2.0

package main

// This file is the table of commands, and how one of them is run.

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// commands is the table, in the order of the help. A new command has a file of its own with a variable, and a line
// here. It is filled in init, because the help refers to it.
var commands []*command

func init() {
	commands = []*command{
		&sendCommand,
		&listenCommand,
		&callCommand,
		&topCommand,
		&doctorCommand,
		&benchCommand,
		&benchWorkerCommand,
		&conformCommand,
		&completionCommand,
		&manCommand,
		&helpCommand,
		&versionCommand,
	}
}

func main() {
	ctx, force := interruptible()
	e := &env{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, force: force, getenv: os.Getenv, self: self}
	ignoreBrokenPipe()
	code := run(ctx, e, os.Args[1:])
	if e.brokenPipe {
		dieOfBrokenPipe()
	}
	os.Exit(code)
}

// self returns a command that runs this program.
func self(ctx context.Context, args ...string) *exec.Cmd {
	program, err := os.Executable()
	if err != nil {
		program = os.Args[0]
	}
	return exec.CommandContext(ctx, program, args...)
}

// run runs the command that the arguments name, and returns its exit code.
func run(ctx context.Context, e *env, args []string) int {
	if len(args) == 0 {
		writeOverview(e.stderr)
		return exitUsage
	}
	name := args[0]
	switch name {
	case "-h", "-help", "--help":
		name = helpCommand.name
	case "-version", "--version":
		name = versionCommand.name
	}
	c := find(name)
	if c == nil {
		fmt.Fprintf(e.stderr, "udsipc: there is no command %q%s; udsipc help lists all\n", name, suggest(name))
		return exitUsage
	}
	return c.run(ctx, e, args[1:])
}

// run parses the flags and runs the command.
func (c *command) run(ctx context.Context, e *env, args []string) int {
	e.name = c.name
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // What is wrong is said below, once.
	start := c.setup(flags)
	operands, err := parse(flags, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return e.writeHelp(c)
	case err != nil:
		return e.usage(flagError(flags, err))
	}
	if err := c.operandError(operands); err != nil {
		return e.usage(err)
	}
	e.args = operands
	return start(ctx, e)
}

// parse parses flags wherever they stand among the operands, up to an argument "--".
func parse(flags *flag.FlagSet, args []string) (operands []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		rest := flags.Args()
		if read := len(args) - len(rest); read > 0 && args[read-1] == "--" {
			return append(operands, rest...), nil
		}
		if len(rest) == 0 {
			return operands, nil
		}
		operands, args = append(operands, rest[0]), rest[1:]
	}
}

// find returns the command with a name, or nil.
func find(name string) *command {
	for _, c := range commands {
		if c.name == name {
			return c
		}
	}
	return nil
}

// suggest returns a question for the command that is most like a mistyped one, or nothing.
func suggest(name string) string {
	var names []string
	for _, c := range commands {
		if !c.hidden {
			names = append(names, c.name)
		}
	}
	return didYouMean("", name, names)
}
