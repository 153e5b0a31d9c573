// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// interruptible returns two contexts: the first interrupt or SIGTERM ends the first, the second one ends both. A
// third one ends the process, as if nobody listened to it.
func interruptible() (first, second context.Context) {
	first, end := context.WithCancel(context.Background())
	second, endAtOnce := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // Ends with the process.
		awaitInterrupts(signals, end, func() {
			signal.Stop(signals)
			endAtOnce()
		})
	}()
	return first, second
}

// listenSignals are those of listen. Each has a channel of its own: one signal never takes the place of another.
type listenSignals struct {
	handOver chan os.Signal // SIGUSR2 announces the next process (RestartKillSignal=, systemd.kill(5)).
	reopen   chan os.Signal // SIGHUP asks to open the file anew, if there is one.
}

// newListenSignals has the signals announced until stop.
func newListenSignals(file bool) listenSignals {
	s := listenSignals{handOver: make(chan os.Signal, 1), reopen: make(chan os.Signal, 1)}
	notifySignals(s, file)
	return s
}

func (s listenSignals) stop() {
	signal.Stop(s.handOver)
	signal.Stop(s.reopen)
}

// doubled is how long a signal may come again and be the same one: timeout(1), for example, sends each to the program,
// and to its process group.
const doubled = 100 * time.Millisecond

// awaitInterrupts calls one function at the first signal and the other at the second.
func awaitInterrupts(signals <-chan os.Signal, first, second func()) {
	was := <-signals
	when := time.Now()
	first()
	for again := range signals {
		if again != was || time.Since(when) >= doubled {
			second()
			return
		}
	}
}
