// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// interruptible returns two contexts: the first interrupt or SIGTERM ends the first, the second one ends both. A
// third one ends the process, as if nobody listened to it.
func interruptible() (first, second context.Context) {
	first, end := context.WithCancel(context.Background())
	second, endAtOnce := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() { // Ends with the process.
		<-signals
		end()
		<-signals
		signal.Stop(signals)
		endAtOnce()
	}()
	return first, second
}
