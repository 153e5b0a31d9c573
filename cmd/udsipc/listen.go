// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os/user"
	"strconv"
	"time"

	"github.com/udsipc/udsipc"
)

var listenCommand = command{
	name:     "listen",
	summary:  "receive messages, and write them as lines, JSON or frames",
	operands: "ADDRESS",
	help: `It receives from any number of writers, and writes each message to the standard
output, or with --append to a file. A writer with acknowledgements gets one
when the message is written; with --append, when the disk has it (fsync, one
for all messages that have come meanwhile). What a kill or a full disk keeps
from being written is sent again, so a message may be there twice, but none is
missing: with --json, a message that occurs again has the same "writer" and
"seq", and "redelivered" is set if it may have been there before. Messages
without acknowledgements come once, or are lost with the process.

A line is the bytes of a message and a newline. Messages that have newlines
within need --json or --raw. With --json, "data" has a message that is UTF-8,
"base64" any other; "seq" counts the messages of "writer", or without one those
of the connection. --raw writes frames, as send --frames reads them.

A kill in the middle of a write leaves half a line in the file. The next
listen moves it to FILE.torn, so FILE has whole lines; it was not acknowledged.
While the disk is full, nothing is acknowledged, and listen tries again.
SIGHUP has it open FILE anew, for programs that rename it.

Under systemd it uses the socket that was passed and reports its state. SIGUSR2
hands the connections to the next process (docs/SYSTEMD.md). The first interrupt
ends it when all that was sent is written.`,
	examples: []example{
		{"udsipc listen /run/app.sock", "each message as a line"},
		{"udsipc listen --json --append /var/log/app.jsonl --rotate-size 100MB --keep 7 /run/app.sock",
			"a collector: what is acknowledged is on the disk"},
		{"udsipc listen --count 1 @ready", "wait for a message, in a script"},
	},
	exits: []exit{
		{exitOK, "it was asked to end, and all that it has read is written"},
		{exitFailed, "it cannot listen or write, or messages without acknowledgements were lost"},
		{exitUsage, "the arguments cannot be; nothing was received"},
	},
	setup: func(flags *flag.FlagSet) runner {
		f := &listenFlags{}
		f.define(flags)
		return f.run
	},
}

// listenFlags has the flags of listen.
type listenFlags struct {
	peer        peerFlags
	json, raw   bool
	file        appendFlags
	count       uint64
	mode        string
	group       string
	connections int
	idle        time.Duration
	systemdName string
	progress    bool
}

func (f *listenFlags) define(flags *flag.FlagSet) {
	f.peer.defineListen(flags)
	f.file.define(flags)
	flags.BoolVar(&f.json, "json", false, "write a JSON object a line: time, peer, writer, seq, redelivered, "+
		"data or base64")
	flags.BoolVar(&f.raw, "raw", false, "write frames: the length of each message as an unsigned varint, then its bytes")
	flags.Uint64Var(&f.count, "count", 0, "end after a `number` of messages; 0 is never")
	flags.StringVar(&f.mode, "mode", "0600", "the permissions of the socket file, an octal `number`; writers need w")
	flags.StringVar(&f.group, "group", "", "the `group` of the socket file, a name or a number")
	flags.IntVar(&f.connections, "max-connections", 16384, "the largest `number` of connections")
	flags.DurationVar(&f.idle, "idle-timeout", 0, "close connections that bring no message for a `duration`; 0 is never")
	flags.StringVar(&f.systemdName, "systemd-name", "", "use the socket with this FileDescriptorName=, a `name`")
	flags.BoolVar(&f.progress, "progress", false, "show progress although the standard error is no terminal, as lines")
}

// maxListenBatch is the largest number of messages for one write and one fsync.
const maxListenBatch = 8192

// options returns those of the Reader.
func (f *listenFlags) options(console *console) ([]udsipc.ReaderOption, error) {
	options, err := f.peer.readerOptions()
	if err != nil {
		return nil, err
	}
	batch := maxListenBatch
	if f.count > 0 {
		batch = 1 // No message beyond the last one is acknowledged.
	}
	options = append(options, udsipc.WithLogger(console.logger()), udsipc.WithSharedBatches(),
		udsipc.WithHungTimeout(-1), // A full disk, or a pipe that nobody reads, is no reason to end.
		udsipc.WithMaxBatch(batch), udsipc.WithMaxConnections(f.connections),
		udsipc.WithInactivityTimeout(f.idle), udsipc.WithFirstMessageTimeout(f.idle))
	if f.mode != "0600" {
		mode, err := strconv.ParseUint(f.mode, 8, 32)
		if err != nil {
			return nil, fmt.Errorf("--mode %s: want an octal number, such as 0660", f.mode)
		}
		options = append(options, udsipc.WithSocketMode(fs.FileMode(mode)))
	}
	if f.group != "" {
		gid, err := lookupGroup(f.group)
		if err != nil {
			return nil, err
		}
		options = append(options, udsipc.WithSocketOwner(-1, gid))
	}
	if f.systemdName != "" {
		options = append(options, udsipc.WithSystemdName(f.systemdName))
	}
	return options, nil
}

func lookupGroup(name string) (int, error) {
	if gid, err := strconv.Atoi(name); err == nil {
		return gid, nil
	}
	group, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("--group %s: %w", name, err)
	}
	return strconv.Atoi(group.Gid)
}

func (f *listenFlags) run(ctx context.Context, e *env) int {
	if f.json && f.raw {
		return e.usage(errors.New("--json and --raw exclude each other"))
	}
	if err := f.file.check(); err != nil {
		return e.usage(err)
	}
	console := e.console()
	l := &listening{flags: f, env: e, console: console, format: appendLine, failed: make(chan struct{})}
	switch {
	case f.json:
		l.format = appendJSON
	case f.raw:
		l.format = appendFrame
	}
	options, err := f.options(console)
	if err != nil {
		return e.usage(err)
	}
	if l.reader, err = udsipc.NewBatchReader(l.handle, e.args[0], options...); err != nil {
		return e.usage(err)
	}
	return l.run(ctx)
}
