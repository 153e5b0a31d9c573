// SPDX-License-Identifier: Apache-2.0

package main

// This file writes the completions of shells, out of the table of commands.

import (
	"context"
	"flag"
	"fmt"
	"strings"
)

var completionCommand = command{
	name:     "completion",
	summary:  "write the completions for bash, zsh or fish",
	operands: "SHELL",
	help: `They complete commands, flags and the names of files. Each new version of the
program has its own: write them where the shell looks for them.`,
	examples: []example{
		{"udsipc completion bash >/etc/bash_completion.d/udsipc", "for all users of bash"},
		{`udsipc completion zsh >"${fpath[1]}/_udsipc"`, "for zsh"},
		{"udsipc completion fish >~/.config/fish/completions/udsipc.fish", "for fish"},
	},
	setup: func(*flag.FlagSet) runner {
		return func(_ context.Context, e *env) int {
			write, ok := completions[e.args[0]]
			if !ok {
				return e.usage(fmt.Errorf("there are no completions for %q: want bash, zsh or fish", e.args[0]))
			}
			return e.writeText(write())
		}
	},
}

var completions = map[string]func() string{
	"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion,
}

// listed returns the commands that users see.
func listed() (list []*command) {
	for _, c := range commands {
		if !c.hidden {
			list = append(list, c)
		}
	}
	return list
}

// words returns what stands behind the name of a command, if that is one of some words.
func (c *command) words() (list []string) {
	switch c.operands {
	case "[COMMAND]":
		for _, other := range listed() {
			list = append(list, other.name)
		}
	case "SHELL":
		list = []string{"bash", "zsh", "fish"}
	}
	return list
}

func bashCompletion() string {
	var text strings.Builder
	names := []string{"--help", "--version"}
	cases := ""
	for _, c := range listed() {
		names = append(names, c.name)
		flags, valued := []string{"--help"}, []string{}
		for _, f := range c.flags() {
			flags = append(flags, "--"+f.name)
			if f.value != "" {
				valued = append(valued, "--"+f.name)
			}
		}
		cases += fmt.Sprintf("\t%s)\n\t\tflags='%s'\n\t\tvalued=' %s '\n\t\twords='%s'\n\t\t;;\n", c.name,
			strings.Join(flags, " "), strings.Join(valued, " "), strings.Join(c.words(), " "))
	}
	fmt.Fprintf(&text, bashTemplate, strings.Join(names, " "), cases)
	return text.String()
}

const bashTemplate = `# Completions of udsipc for bash.
_udsipc() {
	local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} flags= valued= words=
	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		COMPREPLY=($(compgen -W '%s' -- "$current"))
		return
	fi
	case ${COMP_WORDS[1]} in
%s	*) return ;;
	esac
	if [[ $current == -* ]]; then
		COMPREPLY=($(compgen -W "$flags" -- "$current"))
	elif [[ $valued != *" $before "* && -n $words ]]; then
		COMPREPLY=($(compgen -W "$words" -- "$current"))
	fi # Otherwise bash completes the names of files.
}
complete -o default -F _udsipc udsipc
`

func zshCompletion() string {
	var names, cases strings.Builder
	for _, c := range listed() {
		fmt.Fprintf(&names, "\t\t%s\n", zshQuote(c.name+":"+c.summary))
		fmt.Fprintf(&cases, "\t%s)\n\t\t_arguments -S \\\n", c.name)
		for _, f := range c.flags() {
			spec := "--" + f.name
			if f.value != "" {
				spec += "="
			}
			spec += "[" + strings.NewReplacer("[", `\[`, "]", `\]`, ":", `\:`).Replace(f.text()) + "]"
			if f.value != "" {
				spec += ":" + f.value + ":_files"
			}
			fmt.Fprintf(&cases, "\t\t\t%s \\\n", zshQuote(spec))
		}
		words := "_files"
		if list := c.words(); list != nil {
			words = "(" + strings.Join(list, " ") + ")"
		}
		fmt.Fprintf(&cases, "\t\t\t%s\n\t\t;;\n", zshQuote("*:argument:"+words))
	}
	return fmt.Sprintf(zshTemplate, names.String(), cases.String())
}

const zshTemplate = `#compdef udsipc
# Completions of udsipc for zsh.
local -a commands
if ((CURRENT == 2)); then
	commands=(
%s	)
	_describe command commands
	return
fi
local command=$words[2]
shift words
((CURRENT--))
case $command in
%sesac
`

func zshQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

func fishCompletion() string {
	var text strings.Builder
	text.WriteString("# Completions of udsipc for fish.\n")
	for _, c := range listed() {
		fmt.Fprintf(&text, "complete -c udsipc -n __fish_use_subcommand -f -a %s -d %s\n", c.name, fishQuote(c.summary))
		condition := fishQuote("__fish_seen_subcommand_from " + c.name)
		if list := c.words(); list != nil {
			fmt.Fprintf(&text, "complete -c udsipc -n %s -f -a %s\n", condition, fishQuote(strings.Join(list, " ")))
		}
		for _, f := range c.flags() {
			value := ""
			if f.value != "" {
				value = " -r"
			}
			fmt.Fprintf(&text, "complete -c udsipc -n %s -l %s%s -d %s\n", condition, f.name, value, fishQuote(f.text()))
		}
	}
	return text.String()
}

func fishQuote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'"
}
