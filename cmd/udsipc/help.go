// SPDX-License-Identifier: Apache-2.0

package main

// This file writes the texts of the help, out of the table of commands.

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
)

var helpCommand = command{
	name:     "help",
	summary:  "show all commands, or the help of one",
	operands: "[COMMAND]",
	help: `Without a command it lists all of them, with what an address is and what the
exit codes mean. udsipc COMMAND --help is the same as udsipc help COMMAND.`,
	examples: []example{{"udsipc help send", "how to send lines"}},
	setup: func(*flag.FlagSet) runner {
		return func(_ context.Context, e *env) int {
			if len(e.args) == 0 {
				var text strings.Builder
				writeOverview(&text)
				return e.writeText(text.String())
			}
			c := find(e.args[0])
			if c == nil {
				return e.usage(fmt.Errorf("there is no command %q%s", e.args[0], suggest(e.args[0])))
			}
			return e.writeHelp(c)
		}
	},
}

const addressHelp = `An ADDRESS is a path (/run/app.sock, ./app.sock), unix:PATH, @NAME (an abstract
socket of Linux), or tcp://HOST:PORT.`

var commonExits = []exit{
	{exitOK, "all arrived, or what was asked for was done"},
	{exitFailed, "not all arrived, or it failed"},
	{exitUsage, "the arguments cannot be; nothing was done"},
}

// writeOverview writes the list of commands.
func writeOverview(w io.Writer) {
	fmt.Fprint(w, "udsipc streams messages between the programs of a machine.\n\n"+
		"Usage: udsipc COMMAND [flags] [arguments]\n\n")
	for _, c := range commands {
		if !c.hidden {
			fmt.Fprintf(w, "  %-11s %s\n", c.name, c.summary)
		}
	}
	fmt.Fprintf(w, "\n%s\n\nExit codes (udsipc help COMMAND has those of a command):\n", addressHelp)
	writeExits(w, commonExits)
	fmt.Fprint(w, "\nThe first interrupt (Ctrl-C) or SIGTERM ends a command in good order, the second at once.\n")
}

// writeHelp writes the help of a command to the standard output, and returns the exit code.
func (e *env) writeHelp(c *command) int {
	var text strings.Builder
	writeHelp(&text, c)
	return e.writeText(text.String())
}

// writeText writes a text to the standard output, and returns the exit code.
func (e *env) writeText(text string) int { return e.callResult(e.output([]byte(text))) }

// writeHelp writes the help of a command: what it does, examples, flags, exit codes.
func writeHelp(w io.Writer, c *command) {
	fmt.Fprintf(w, "Usage: udsipc %s\n\n", c.synopsis())
	fmt.Fprintf(w, "%s.\n", strings.ToUpper(c.summary[:1])+c.summary[1:])
	if c.help != "" {
		fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(c.help))
	}
	if strings.Contains(c.operands, "ADDRESS") {
		fmt.Fprintf(w, "\n%s\n", addressHelp)
	}
	for i, x := range c.examples {
		if i == 0 {
			fmt.Fprint(w, "\nExamples:\n")
		}
		fmt.Fprintf(w, "  %s\n      %s\n", x.line, x.what)
	}
	flags := c.flags()
	for i, f := range flags {
		if i == 0 {
			fmt.Fprint(w, "\nFlags:\n")
		}
		fmt.Fprintf(w, "  %s\n", f.form())
		for _, line := range wrap(f.text(), 72) {
			fmt.Fprintf(w, "      %s\n", line)
		}
	}
	fmt.Fprint(w, "\nExit codes:\n")
	writeExits(w, c.exitCodes())
}

func writeExits(w io.Writer, exits []exit) {
	for _, x := range exits {
		fmt.Fprintf(w, "  %-3d %s\n", x.code, x.what)
	}
}

// exitCodes returns what the exit codes of the command mean.
func (c *command) exitCodes() []exit {
	if c.exits != nil {
		return c.exits
	}
	return commonExits
}

// synopsis returns how the command is called.
func (c *command) synopsis() string {
	text := c.name
	if len(c.flags()) > 0 {
		text += " [flags]"
	}
	if c.operands != "" {
		text += " " + c.operands
	}
	return text
}

// A flagHelp is a flag as the help and the man page show it.
type flagHelp struct {
	name     string
	value    string // The name of its value; empty for a flag without one.
	usage    string
	standard string // The default, if there is one to tell.
}

// flags returns the flags of a command, in the order of their names.
func (c *command) flags() (list []flagHelp) {
	set := flag.NewFlagSet(c.name, flag.ContinueOnError)
	c.setup(set)
	set.VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		h := flagHelp{f.Name, value, usage, f.DefValue}
		switch f.DefValue {
		case "", "0", "0s", "false", "[]":
			h.standard = ""
		}
		list = append(list, h)
	})
	return list
}

// form returns the flag as it is written.
func (f flagHelp) form() string {
	if f.value == "" {
		return "--" + f.name
	}
	return "--" + f.name + " " + strings.ToUpper(f.value)
}

// text returns what the flag does, with its default.
func (f flagHelp) text() string {
	usage := strings.ReplaceAll(f.usage, f.value, strings.ToUpper(f.value))
	if f.value == "" {
		usage = f.usage
	}
	if f.standard != "" {
		return usage + " (default " + f.standard + ")"
	}
	return usage
}

// wrap breaks a text into lines of at most so many columns.
func wrap(text string, columns int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > columns {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
