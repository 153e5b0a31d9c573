// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// ignoreBrokenPipe makes a write to a pipe that nobody reads an error. Otherwise the process would end in the middle
// of it (os/signal, SIGPIPE), and leave its socket file behind.
func ignoreBrokenPipe() { signal.Ignore(syscall.SIGPIPE) }

// dieOfBrokenPipe ends the process as other Unix tools end when nobody reads what they write.
func dieOfBrokenPipe() {
	signal.Reset(syscall.SIGPIPE)
	if process, err := os.FindProcess(os.Getpid()); err == nil && process.Signal(syscall.SIGPIPE) == nil {
		select {} // The signal is on its way.
	}
}
