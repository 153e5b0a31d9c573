// SPDX-License-Identifier: Apache-2.0

package main

// This file is the command conform: the cases of the protocol for another implementation.

import (
	"context"
	"errors"
	"flag"
	"os"
	"strings"
	"time"

	"github.com/udsipc/udsipc/internal/conform"
)

var conformCommand = command{
	name:     "conform",
	summary:  "put another implementation of the protocol through its cases",
	operands: "ADDRESS [COMMAND...]",
	help: `It is a Writer for the Reader at ADDRESS: a correct one, one that is cut off
after each byte, one that sends garbage. With --listen, it is a Reader at
ADDRESS, for a Writer under test. Each row of the table is a case: ok, FAIL with
what was wrong, or skipped. Do not run it against a Reader in production: it
sends messages of its own.

A Reader under test prints a line for each message after it was handled:

  LENGTH SUM r|- FIRST-40-BYTES

SUM is the sum of the bytes of the message; r tells that it was marked as
redelivered. The message "sleep 300" takes its handler 300 ms. Without these
lines, only what the wire tells is checked.

A Writer under test sends each line of its standard input as one message, and
ends once all have arrived. With --listen and without a COMMAND, run it again
and again: seq 100000 | my-writer ADDRESS. It may not wait longer than
--timeout before it connects again.

COMMAND starts the implementation, after "--": a Reader, whose output is what
it has handled, or a Writer for each case. docs/CLIENTS.md has more.`,
	examples: []example{
		{"udsipc conform /tmp/t.sock -- ./my-reader /tmp/t.sock", "test a Reader, which is also killed"},
		{"udsipc conform --handled FIFO /tmp/t.sock", "test one that runs and prints to a named pipe"},
		{"udsipc conform --listen /tmp/t.sock -- ./my-writer /tmp/t.sock", "test a Writer"},
	},
	exits: []exit{
		{exitOK, "no case has failed"},
		{exitFailed, "a case has failed, or there is no connection"},
		{exitUsage, "the arguments cannot be; nothing was done"},
	},
	setup: setupConform,
}

func setupConform(flags *flag.FlagSet) runner {
	var opt conform.Options
	listen := flags.Bool("listen", false, "listen at ADDRESS, for a Writer under test")
	handled := flags.String("handled", "", "read what a Reader has handled from a `file`; - is the standard input")
	flags.DurationVar(&opt.Timeout, "timeout", 5*time.Second, "the longest `duration` of each wait for the other side")
	flags.IntVar(&opt.Messages, "messages", 100_000, "the `number` of messages that a Writer under test sends")
	flags.BoolVar(&opt.Verbose, "verbose", false, "print each case also when it begins")
	return func(ctx context.Context, e *env) int {
		opt.Command, opt.Stderr = e.args[1:], e.stderr
		switch {
		case *handled != "" && (*listen || len(opt.Command) > 0):
			return e.usage(errors.New("--handled is for a Reader that is not started here"))
		case opt.Timeout <= 0, opt.Messages < 200:
			return e.usage(errors.New("--timeout is over 0, --messages at least 200"))
		case *handled == "-":
			opt.Handled = e.stdin
		case *handled != "":
			file, err := os.Open(*handled)
			if err != nil {
				return e.fail(err)
			}
			defer file.Close()
			opt.Handled = file
		}
		test := conform.Reader
		if *listen {
			test = conform.Writer
		}
		network, address := conformAddress(e.args[0])
		if err := test(ctx, e.stdout, network, address, opt); err != nil {
			return e.fail(err)
		}
		return exitOK
	}
}

// conformAddress returns the network and the address for package net.
func conformAddress(text string) (network, address string) {
	if rest, ok := strings.CutPrefix(text, "tcp://"); ok {
		return "tcp", rest
	}
	return "unix", strings.TrimPrefix(text, "unix:")
}
