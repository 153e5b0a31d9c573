// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// notifySignals passes on the signals of listen: SIGUSR2, and SIGHUP if there is a file to open anew.
func notifySignals(c chan<- os.Signal, file bool) {
	signal.Notify(c, syscall.SIGUSR2)
	if file {
		signal.Notify(c, syscall.SIGHUP)
	}
}

// isHandOver reports whether a signal announces the next process (RestartKillSignal=, systemd.kill(5)).
func isHandOver(s os.Signal) bool { return s == syscall.SIGUSR2 }

// isFull reports whether a write failed for want of something that comes back: room, or descriptors, which connections
// take too.
func isFull(err error) bool {
	for _, want := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE} {
		if errors.Is(err, want) {
			return true
		}
	}
	return false
}
