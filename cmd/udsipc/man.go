// SPDX-License-Identifier: Apache-2.0

package main

// This file writes the man page, out of the table of commands.

import (
	"context"
	"flag"
	"fmt"
	"strings"
)

var manCommand = command{
	name:    "man",
	summary: "write the man page",
	help:    `It is in the format of man(7). The page has the help of all commands.`,
	examples: []example{
		{"udsipc man | man -l -", "read it"},
		{"udsipc man >/usr/local/share/man/man1/udsipc.1", "install it"},
	},
	setup: func(*flag.FlagSet) runner {
		return func(_ context.Context, e *env) int { return e.writeText(manPage()) }
	},
}

// manDate is that of the page: the last change of a text.
const manDate = "2026-11-22"

// manPage returns the page.
func manPage() string {
	var p roff
	fmt.Fprintf(&p.b, ".TH UDSIPC 1 %s udsipc \"User Commands\"\n", manDate)
	p.macro("SH", "NAME")
	p.text("udsipc - stream messages between the programs of a machine")
	p.macro("SH", "SYNOPSIS")
	for i, c := range listed() {
		if i > 0 {
			p.macro("br")
		}
		p.synopsis(c)
	}
	p.macro("SH", "DESCRIPTION")
	p.text("Programs with the library udsipc stream messages to a reader on the same machine, over Unix sockets or TCP. " +
		"This tool sends and receives messages, calls methods, and looks at running programs.")
	p.macro("PP")
	p.text(strings.ReplaceAll(addressHelp, "\n", " "))
	p.macro("PP")
	p.text("The first interrupt (Ctrl-C) or SIGTERM ends a command in good order, the second at once.")
	p.macro("SH", "COMMANDS")
	for _, c := range listed() {
		p.command(c)
	}
	p.macro("SH", "EXIT STATUS")
	p.text("A command that has other codes describes them.")
	p.exits(commonExits)
	p.macro("SH", "SEE ALSO")
	p.text("https://github.com/udsipc/udsipc has the library and its documentation.")
	return p.b.String()
}

// A roff is a text in the format of man(7).
type roff struct{ b strings.Builder }

// macro writes a request with its arguments.
func (p *roff) macro(name string, args ...string) {
	p.b.WriteString("." + name)
	for _, arg := range args {
		p.b.WriteString(` "` + strings.ReplaceAll(escape(arg), `"`, `\(dq`) + `"`)
	}
	p.b.WriteByte('\n')
}

// text writes lines of text, each as a sentence of its own if it has several.
func (p *roff) text(text string) {
	for sentence := range strings.SplitSeq(text, ". ") {
		if sentence = strings.TrimSpace(sentence); sentence == "" {
			continue
		}
		if !strings.HasSuffix(text, sentence) {
			sentence += "."
		}
		for _, line := range wrap(escape(sentence), 78) {
			p.b.WriteString(guard(line) + "\n")
		}
	}
}

// escape writes a text so that roff shows it as it is.
func escape(text string) string {
	return roffEscapes.Replace(text)
}

var roffEscapes = strings.NewReplacer(
	`\`, `\e`, "-", `\-`, "…", "...", "~", `\(ti`, "^", `\(ha`, "`", `\(ga`, "'", `\(aq`,
)

// guard keeps a line of text from being a request.
func guard(line string) string {
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		return `\&` + line
	}
	return line
}

func (p *roff) synopsis(c *command) {
	fmt.Fprintf(&p.b, "\\fBudsipc %s\\fR", escape(c.name))
	if len(c.flags()) > 0 {
		p.b.WriteString(` [\fIflags\fR]`)
	}
	for _, word := range strings.Fields(c.operands) {
		fmt.Fprintf(&p.b, " \\fI%s\\fR", escape(word))
	}
	p.b.WriteByte('\n')
}

// command writes the help of a command.
func (p *roff) command(c *command) {
	p.macro("SS", c.name)
	p.synopsis(c)
	p.macro("PP")
	p.text(strings.ToUpper(c.summary[:1]) + c.summary[1:] + ".")
	for paragraph := range strings.SplitSeq(strings.TrimSpace(c.help), "\n\n") {
		p.macro("PP")
		p.text(strings.ReplaceAll(paragraph, "\n", " "))
	}
	for _, f := range c.flags() {
		p.macro("TP")
		fmt.Fprintf(&p.b, "\\fB%s\\fR", escape("--"+f.name))
		if f.value != "" {
			fmt.Fprintf(&p.b, " \\fI%s\\fR", escape(strings.ToUpper(f.value)))
		}
		p.b.WriteByte('\n')
		p.text(f.text())
	}
	for _, x := range c.examples {
		p.macro("PP")
		p.text(strings.ToUpper(x.what[:1]) + x.what[1:] + ":")
		p.macro("PP")
		p.macro("RS", "4")
		p.macro("nf")
		p.b.WriteString(guard(escape(x.line)) + "\n")
		p.macro("fi")
		p.macro("RE")
	}
	if c.exits != nil {
		p.macro("PP")
		p.text("Exit status:")
		p.exits(c.exits)
	}
}

func (p *roff) exits(list []exit) {
	for _, x := range list {
		p.macro("TP")
		fmt.Fprintf(&p.b, "\\fB%d\\fR\n", x.code)
		p.text(x.what)
	}
}
