// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// pipeSignals takes what is not to end the process.
var pipeSignals = make(chan os.Signal, 1)

// ignoreBrokenPipe makes a write to a pipe that nobody reads an error. Otherwise the process would end in the middle
// of it (os/signal, SIGPIPE), and leave its socket file behind.
func ignoreBrokenPipe() { signal.Notify(pipeSignals, syscall.SIGPIPE) }

// dieOfBrokenPipe ends the process as other Unix tools end when nobody reads what they write. A SIGPIPE that a process
// sends to itself is ignored by Go's runtime, one of a write is not.
func dieOfBrokenPipe() {
	signal.Stop(pipeSignals)
	_, _ = os.Stdout.Write([]byte{'\n'})
}
