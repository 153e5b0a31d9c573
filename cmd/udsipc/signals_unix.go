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

// isFull reports whether a write failed for want of room.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
