// SPDX-License-Identifier: Apache-2.0

package main

// This file is the command doctor: it examines an address and tells what to do.

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/udsipc/udsipc/internal/inspect"
	"github.com/udsipc/udsipc/internal/publish"
)

var doctorCommand = command{
	name:     "doctor",
	summary:  "examine an address: who listens, what is wrong, what to do",
	operands: "ADDRESS",
	help: `It tells the owner and the mode of a socket file and of its directory, whether
the file is stale, which process listens and in which unit of systemd, whether
it is a Reader with sessions or TLS, which limits apply, and what the listener
publishes of its metrics. Below each finding stands what to do.

It sends no message. It connects a few times: without a byte, with a question
for the version of sessions, and with a TLS handshake if the listener asks for
it. A Reader counts these connections (Accepted), one with TLS a failed
handshake. It logs and counts them as refused if its authorizer does not
accept you, or WithMaxConnections is reached; a connection takes a place of
that limit for a moment. With --quiet it connects once and sends nothing.

What other users' processes hold is seen by root alone.`,
	examples: []example{
		{"udsipc doctor /run/app.sock", "why does my writer not connect?"},
		{"udsipc doctor --json tcp://127.0.0.1:7000", "the same for a program"},
		{"udsipc doctor --quiet /run/app.sock > /dev/null", "a health check by its exit code"},
	},
	exits: []exit{
		{exitOK, "no problem was found; there may be notes"},
		{exitFailed, "there are problems"},
		{exitUsage, "the arguments cannot be; nothing was done"},
	},
	setup: func(flags *flag.FlagSet) runner {
		var d doctor
		flags.DurationVar(&d.Within, "timeout", 2*time.Second, "the time `DURATION` that the listener has for an answer")
		flags.BoolVar(&d.Quiet, "quiet", false, "connect once and send nothing")
		flags.BoolVar(&d.json, "json", false, "write one JSON object")
		return d.run
	},
}

// A doctor is one run of the command.
type doctor struct {
	inspect.Examination
	json bool
}

func (d *doctor) run(ctx context.Context, e *env) int {
	if d.Within <= 0 {
		return e.usage(fmt.Errorf("--timeout %v: want more than 0", d.Within))
	}
	report, err := d.Examine(ctx, e.args[0])
	if err != nil {
		return e.usage(err)
	}
	d.addPublished(ctx, report)
	if d.json {
		encoder := json.NewEncoder(e.stdout)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(report)
	} else {
		err = writeReport(e.stdout, report)
	}
	if err != nil {
		return e.failOutput(err)
	}
	if problems, _ := report.Problems(); problems > 0 {
		return exitFailed
	}
	return exitOK
}

// writeReport writes the findings as lines, and a sum.
func writeReport(w io.Writer, r *inspect.Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\n", printableText(r.Address), verdict(r))
	for _, f := range r.Findings {
		lines := wrap(printableText(f.Text), 80)
		fmt.Fprintf(&b, "%-8s %-10s %s\n", f.Level, f.About, lines[0])
		for _, line := range lines[1:] {
			fmt.Fprintf(&b, "%19s %s\n", "", line)
		}
		if f.Remedy != "" {
			for i, line := range wrap(f.Remedy, 77) {
				fmt.Fprintf(&b, "%19s %s\n", "", map[bool]string{true: "-> ", false: "   "}[i == 0]+line)
			}
		}
	}
	problems, notes := r.Problems()
	fmt.Fprintf(&b, "\n%s, %s\n", plural(uint64(problems), "problem"), plural(uint64(notes), "note"))
	_, err := io.WriteString(w, b.String())
	return err
}

// printableText returns a text without control characters, however long it is.
func printableText(text string) string {
	return strings.Map(func(r rune) rune {
		if printable(string(r)) != string(r) {
			return '?'
		}
		return r
	}, text)
}

// verdict returns what the address is, in a few words.
func verdict(r *inspect.Report) string {
	what := "something"
	switch s := r.Speaks; {
	case r.Stale:
		return "a stale socket file; nobody listens"
	case !r.Listening:
		return "nobody listens"
	case s.Duplex:
		what = "a server of package duplex or rpc"
	case s.Reader && s.Sessions > 0:
		what = "a Reader with sessions"
	case s.Reader:
		what = "a Reader"
	}
	if r.Speaks.TLS {
		what += ", with TLS"
	}
	if r.Speaks.Limit > 0 {
		what += ", for messages up to " + limitText(r.Speaks.Limit)
	}
	if strings.Contains(what, ",") {
		what += ","
	}
	what += " listens"
	for i, p := range processesThatListen(r) {
		what += fmt.Sprintf("%s process %d (%s)", map[bool]string{true: " in", false: ","}[i == 0], p.PID, printable(p.Name))
	}
	return what
}

// processesThatListen returns the processes with a name that listen at the address.
func processesThatListen(r *inspect.Report) (list []inspect.Process) {
	for _, p := range r.Listeners {
		if p.Listens && p.Name != "" {
			list = append(list, p)
		}
	}
	return list
}

// limitText returns a size in bytes, with its unit.
func limitText(n uint64) string {
	text := exactBytes(n)
	digits := strings.TrimRight(text, "KMGiB ")
	if digits == text {
		return plural(n, "byte")
	}
	return digits + " " + strings.TrimSpace(text[len(digits):])
}

// addPublished adds what the listeners publish of their metrics.
func (d *doctor) addPublished(ctx context.Context, r *inspect.Report) {
	for _, folder := range publish.Folders() {
		found, _ := publish.Find(folder) // A directory that cannot be used has no metrics.
		for _, endpoint := range found {
			for _, p := range r.Listeners {
				if p.PID == endpoint.PID {
					addMetrics(r, endpoint, d.snapshot(ctx, endpoint))
				}
			}
		}
	}
}

// snapshot returns what an endpoint publishes, or nil.
func (d *doctor) snapshot(ctx context.Context, endpoint publish.Endpoint) *publish.Snapshot {
	ctx, cancel := context.WithTimeout(ctx, d.Within)
	defer cancel()
	client, err := endpoint.Dial(ctx)
	if err != nil {
		return nil
	}
	defer client.Close()
	snapshot, err := client.Next(d.Within)
	if err != nil {
		return nil
	}
	return snapshot
}

// troubles are counters of a listener that tell of trouble, and what to do.
var troubles = []struct{ counter, what, remedy string }{
	{"refused", "connections refused because too many were open",
		"Raise WithMaxConnections or WithMaxConnectionsPerUser."},
	{"dead_letters", "dead letters, for which the handler has failed too often",
		"Look at the log of the reader, and use WithDeadLetter."},
	{"panics", "messages that made the handler panic", "Look at the log of the reader: it has the stack."},
	{"too_large", "messages over the limit", "Raise WithMaxMessageSize, or send smaller messages."},
	{"accept_errors", "failures to accept a connection", "Look at the log of the reader; mostly it has too few files."},
	{"discarded", "messages that were read and not handled, at a forced stop", "Give Stop more time."},
}

// sameAddress reports whether two addresses are the same text or the same file.
func sameAddress(a, b string) bool {
	first, err := os.Stat(a)
	second, otherErr := os.Stat(b)
	return a == b || err == nil && otherErr == nil && os.SameFile(first, second)
}

// addMetrics adds what a listener at the address tells about itself.
func addMetrics(r *inspect.Report, endpoint publish.Endpoint, s *publish.Snapshot) {
	if s == nil || !sameAddress(s.Address, r.Address) || kindOf(s.Kind).messages != "received" {
		return
	}
	r.Findings = append(r.Findings, inspect.Finding{Level: inspect.OK, About: "metrics", Text: fmt.Sprintf(
		"it publishes metrics as %q (udsipc top): %s, %s received since %s", endpoint.Name,
		plural(uint64(max(0, s.Gauges["connections"])), "connection"), plural(s.Counters["received"], "message"),
		s.Start.Local().Format(time.DateTime))})
	for _, trouble := range troubles {
		if n := s.Counters[trouble.counter]; n > 0 {
			r.Findings = append(r.Findings, inspect.Finding{Level: inspect.Note, About: "metrics",
				Text: fmt.Sprintf("%s: %d", trouble.what, n), Remedy: trouble.remedy})
		}
	}
}
