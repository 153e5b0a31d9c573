// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// notifyTerminal passes on the signals of a terminal: another size, a stop, its end.
func notifyTerminal(c chan<- os.Signal) {
	signal.Notify(c, syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGHUP, syscall.SIGQUIT)
}

func isHangup(s os.Signal) bool { return s == syscall.SIGHUP || s == syscall.SIGQUIT }

func isPause(s os.Signal) bool { return s == syscall.SIGTSTP }

// pauseProcess stops the process as ^Z does. It returns when the process goes on.
func pauseProcess() {
	goesOn := make(chan os.Signal, 1)
	signal.Notify(goesOn, syscall.SIGCONT)
	defer signal.Stop(goesOn)
	if syscall.Kill(os.Getpid(), syscall.SIGSTOP) == nil {
		<-goesOn // Another thread may take the signal: this one would go on for a moment.
	}
}
