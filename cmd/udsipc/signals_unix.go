// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"errors"
	"os/signal"
	"syscall"
)

func notifySignals(s listenSignals, file bool) {
	signal.Notify(s.handOver, syscall.SIGUSR2)
	if file { // Else it ends the process, as by default.
		signal.Notify(s.reopen, syscall.SIGHUP)
	}
}

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
