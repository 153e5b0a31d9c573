// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"
)

// exitSpooled is an exit code of send: nothing is lost, but not all has arrived.
const exitSpooled = 3

var sendCommand = command{
	name:     "send",
	summary:  "send lines, frames or files to a reader",
	operands: "ADDRESS [FILE...]",
	help: `Each line of the files, or of the standard input (also as "-"), is a message,
without its newline. A line is sent as soon as it is read, and the input is
read no faster than the reader takes it. While nobody listens, send waits and
says so. The last line on the standard error has the numbers; the exit code
tells whether all messages have arrived.

Without --ack, arrived means that the reader has read the message (on a Unix
socket on Linux; elsewhere that the kernel has taken it). With --ack it means
that the reader's handler is done with it, and messages are sent again when a
connection breaks. With --spool, messages are also on the disk until then, and
the next send with the same directory goes on with them.

The first interrupt ends the input: what it has written is sent, and send
waits until that has arrived. The second interrupt gives up what is left.`,
	examples: []example{
		{"journalctl -f -o json | udsipc send --ack /run/app.sock", "each entry of the journal, as it comes"},
		{"udsipc send --ack --file /run/app.sock *.json", "each file as one message"},
		{"udsipc send --spool /var/spool/app /run/app.sock <events.log", "safe on the disk although nobody listens"},
	},
	exits: []exit{
		{exitOK, "all messages have arrived"},
		{exitFailed, "messages are missing, or perhaps missing; the last line has the numbers"},
		{exitUsage, "the arguments cannot be; nothing was sent"},
		{exitSpooled, "with --spool: not all have arrived, the others are in the spool"},
	},
	setup: func(flags *flag.FlagSet) runner {
		f := &sendFlags{}
		f.define(flags)
		return f.run
	},
}

// sendFlags has the flags of send.
type sendFlags struct {
	peer       peerFlags
	ack        bool
	frames     bool
	file       bool
	null       bool
	longLines  string
	overflow   string
	queue      uint
	queueBytes byteSize
	maxAge     time.Duration
	timeout    time.Duration
	spool      string
	spoolSize  byteSize
	spoolSync  time.Duration
	spoolWait  bool
	progress   bool
	quiet      bool
}

func (f *sendFlags) define(flags *flag.FlagSet) {
	f.peer.defineDial(flags)
	flags.BoolVar(&f.ack, "ack", false, "have each message acknowledged when the reader's handler is done with it")
	flags.BoolVar(&f.frames, "frames", false, "the input is frames: the length of each message as an unsigned "+
		"varint, then its bytes (docs/PROTOCOL.md)")
	flags.BoolVar(&f.file, "file", false, "each file, or the whole standard input, is one message")
	flags.BoolVar(&f.null, "null", false, "lines end with a zero byte, as those of find -print0")
	flags.StringVar(&f.longLines, "long-lines", longLinesError, "what to do with a line over --max-message-size, one "+
		"of `mode` error (stop there), split (into several messages) or skip (and count it)")
	flags.StringVar(&f.overflow, "overflow", "block", "what to do when the queue is full, one of `policy` block "+
		"(read no further), drop-oldest or drop-newest (and count it)")
	flags.UintVar(&f.queue, "queue", defaultMaxQueue, "the largest `number` of messages in the queue")
	f.queueBytes = defaultQueueBytes
	flags.Var(&f.queueBytes, "queue-bytes", "the largest `size` of the queue")
	flags.DurationVar(&f.maxAge, "max-age", 0, "drop and count messages that wait longer than a `duration` such as 30s")
	flags.DurationVar(&f.timeout, "timeout", 0, "give up when messages wait and none has arrived for a `duration`")
	flags.StringVar(&f.spool, "spool", "", "keep messages in this `directory` until the reader has acknowledged them")
	f.spoolSize = defaultSpoolSize
	flags.Var(&f.spoolSize, "spool-size", "the largest `size` of the spool")
	flags.DurationVar(&f.spoolSync, "spool-sync", defaultSpoolSync, "how long a message may be in the kernel only; a "+
		"`duration`, 0 to wait for the disk")
	flags.BoolVar(&f.spoolWait, "spool-wait", false, "at the end of the input, wait for a reader that is away, instead "+
		"of leaving messages in the spool")
	flags.BoolVar(&f.progress, "progress", false, "show progress although the standard error is no terminal, as lines")
	flags.BoolVar(&f.quiet, "quiet", false, "no progress, and no last line if all has arrived")
}

func (f *sendFlags) check() error {
	switch {
	case f.frames && f.file, f.frames && f.null, f.file && f.null:
		return errors.New("--frames, --file and --null exclude each other")
	case f.longLines != longLinesError && f.longLines != longLinesSplit && f.longLines != longLinesSkip:
		return fmt.Errorf("--long-lines %s: want error, split or skip", f.longLines)
	case f.timeout < 0:
		return fmt.Errorf("--timeout %v: want 0 or more", f.timeout)
	case f.spoolWait && f.spool == "":
		return errors.New("--spool-wait needs --spool")
	case f.spool == "" && (f.spoolSize != defaultSpoolSize || f.spoolSync != defaultSpoolSync):
		return errors.New("--spool-size and --spool-sync need --spool")
	case f.spool != "" && (f.queue != defaultMaxQueue || f.queueBytes != defaultQueueBytes):
		return errors.New("--queue and --queue-bytes are for messages in memory; with --spool, use --spool-size")
	}
	return nil
}

func (f *sendFlags) run(ctx context.Context, e *env) int {
	if err := f.check(); err != nil {
		return e.usage(err)
	}
	console := e.console()
	out, err := f.newOutlet(e.args[0], console)
	switch {
	case errors.As(err, &directoryError{}):
		return e.fail(err)
	case err != nil:
		return e.usage(err)
	}
	s := &sending{flags: f, env: e, console: console, out: out, began: time.Now()}
	if err := out.Start(); err != nil {
		return e.fail(err)
	}
	err = s.send(ctx, e.args[1:])
	console.erase()
	return s.report(err)
}
