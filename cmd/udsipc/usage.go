// SPDX-License-Identifier: Apache-2.0

package main

// This file words what is wrong with the arguments of a command: in its own flags, with what was perhaps meant.

import (
	"flag"
	"fmt"
	"regexp"
	"strings"
)

// operandError returns what is wrong with the number of operands, or nil.
func (c *command) operandError(operands []string) error {
	least, most := c.operandCount()
	want := strings.TrimSpace("udsipc " + c.name + " " + c.operands)
	switch {
	case len(operands) < least:
		return fmt.Errorf("%s is missing: %s", strings.Fields(c.operands)[len(operands)], want)
	case len(operands) > most:
		return fmt.Errorf("there is no argument for %q: %s", operands[most], want)
	}
	return nil
}

// flagError returns an error of package flag with two hyphens, the kind of the value, and what was perhaps meant.
// The package has no other errors than texts.
func flagError(flags *flag.FlagSet, err error) error {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		var names []string
		flags.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
		return fmt.Errorf("there is no flag --%s%s", name, didYouMean("--", name, names))
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		return fmt.Errorf("--%s needs a value: %s", name, kindOfValue(flags, name))
	}
	if parts := invalidValue.FindStringSubmatch(text); parts != nil {
		reason := parts[3]
		if reason == "parse error" || reason == "" {
			reason = "want " + kindOfValue(flags, parts[2])
		}
		return fmt.Errorf("--%s %s: %s", parts[2], parts[1], reason)
	}
	return err
}

var invalidValue = regexp.MustCompile(`^invalid (?:boolean )?value ("(?:[^"\\]|\\.)*") for (?:flag )?-([a-z-]+): (.*)$`)

// kindOfValue returns what a value of a flag is.
func kindOfValue(flags *flag.FlagSet, name string) string {
	f := flags.Lookup(name)
	if f == nil {
		return "a value"
	}
	switch value, _ := flag.UnquoteUsage(f); strings.ToLower(value) {
	case "":
		return "true or false"
	case "duration":
		return "a duration with its unit, such as 30s"
	case "size":
		return "a size in bytes, such as 4096, 64KiB or 10MB"
	default:
		return "a " + strings.ToLower(value)
	}
}

// didYouMean returns a question for the name that is most like a mistyped one, or nothing.
func didYouMean(before, name string, names []string) string {
	best, nearest := "", 3 // Two letters may be wrong.
	for _, n := range names {
		if d := distance(name, n); d < nearest && d < len(name) {
			best, nearest = n, d
		}
	}
	if best == "" && len(name) > 1 {
		for _, n := range names {
			if strings.HasPrefix(n, name[:2]) {
				best = n
				break
			}
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s%s?)", before, best)
}

// distance returns how many letters are inserted, left out or replaced between two names.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			step := diagonal
			if a[i] != b[j] {
				step = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], step
		}
	}
	return row[len(b)]
}

// flagsOfOptions are the flags that set an option of the library. Of several flags, the first one that a command has.
var flagsOfOptions = map[string][]string{
	"WithAcknowledgements":  {"ack"},
	"WithAuthorizer":        {"same-user"},
	"WithInactivityTimeout": {"idle-timeout"},
	"WithMaxAge":            {"max-age"},
	"WithMaxBackoff":        {"max-backoff"},
	"WithMaxBufferedBytes":  {"queue-bytes"},
	"WithMaxBufferedWrites": {"queue"},
	"WithMaxBytes":          {"spool-size"},
	"WithMaxConnections":    {"max-connections"},
	"WithMaxMessageSize":    {"max-message-size"},
	"WithPlaintext":         {"plaintext"},
	"WithPublishedMetrics":  {"publish"},
	"WithSocketMode":        {"mode"},
	"WithSocketOwner":       {"group"},
	"WithSync":              {"spool-sync"},
	"WithSystemdName":       {"systemd-name"},
	"WithTLS":               {"tls", "tls-cert"},
}

var optionName = regexp.MustCompile(`(its )?(?:spool\.)?(With[A-Z][A-Za-z]+)(?:\(([^()]*)\))?`)

// withFlags returns a text of the library with the flags of a command for the options that they set. An option of the
// other side stays as it is.
func withFlags(name, text string) string {
	c := find(name)
	if c == nil || !strings.Contains(text, "With") {
		return text
	}
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	c.setup(flags)
	return optionName.ReplaceAllStringFunc(text, func(match string) string {
		parts := optionName.FindStringSubmatch(match)
		for _, f := range flagsOfOptions[parts[2]] {
			if parts[1] == "" && flags.Lookup(f) != nil {
				return strings.TrimSpace("--" + f + " " + parts[3])
			}
		}
		return match
	})
}
