// SPDX-License-Identifier: Apache-2.0

package main

// This file reads the list of equivalent mutants, which no test can notice.

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed equivalent.txt
var equivalentText string

// equivalents has the keys of the listed mutants.
type equivalents map[string]bool

// key returns the key of a mutant. It ignores case, so that a name may become exported.
func key(file, function, before, after string) string {
	return strings.ToLower(strings.Join([]string{file, function, before, after}, "\n"))
}

// has reports whether m is listed: by itself, by its line, or by its function.
func (e equivalents) has(m mutant) bool {
	return slices.ContainsFunc(m.keys(), func(k string) bool { return e[k] })
}

// keys returns the keys under which m may be listed.
func (m mutant) keys() []string {
	return []string{
		key(m.name, m.function, m.before, m.after), key(m.name, m.function, m.before, "*"),
		key(m.name, m.function, "*", "*"),
	}
}

// stale returns the entries for files of p that match no mutant: their code has changed.
func (e equivalents) stale(p *pkg) (entries []string) {
	files, matched := map[string]bool{}, map[string]bool{}
	for _, m := range p.mutants {
		files[strings.ToLower(m.name)] = true
		for _, k := range m.keys() {
			matched[k] = true
		}
	}
	for k := range e {
		if name, _, _ := strings.Cut(k, "\n"); files[name] && !matched[k] {
			entries = append(entries, strings.ReplaceAll(k, "\n", " | "))
		}
	}
	slices.Sort(entries)
	return entries
}

// parseEquivalents parses blocks that are separated by empty lines. A block has a file (or several,
// with commas) and a function. Then come one or more pairs of lines, each as it is printed: a
// source line (-) and its changed form (+). The reason follows. A * stands for any change. Lines
// with # are comments.
func parseEquivalents(text string) (equivalents, error) {
	e := equivalents{}
	for block := range strings.SplitSeq(text, "\n\n") {
		if err := e.parse(block); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func (e equivalents) parse(block string) error {
	var file, function, before, reason string
	entries := 0
	for line := range strings.SplitSeq(strings.TrimSpace(block), "\n") {
		mark, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "" || mark == "#":
		case file == "":
			file, function = mark, rest
		case mark == "-" && reason == "":
			before = rest
		case mark == "+" && reason == "" && before != "":
			for name := range strings.SplitSeq(file, ",") {
				e[key(name, function, before, rest)] = true
			}
			entries++
		default:
			reason += line
		}
	}
	if file != "" && (entries == 0 || strings.TrimSpace(reason) == "") {
		return fmt.Errorf("mutate: equivalent.txt: a block of %s has %d entries and the reason %q", file, entries, reason)
	}
	return nil
}
