// SPDX-License-Identifier: Apache-2.0

// An agent for systemd: it sends a line to the collector every second, and says at the end what became of
// them. agent.service one directory up runs it; what it does about a collector that is away is up to the Writer.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/udsipc/udsipc"
)

const (
	interval     = time.Second
	closeTimeout = 10 * time.Second // For what is queued to be delivered: less than TimeoutStopSec=.
)

func main() {
	log.SetFlags(0) // The journal has the time.
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, "/run/collector/collector.sock", interval); err != nil {
		log.Fatal(err)
	}
}

// run sends until ctx ends.
func run(ctx context.Context, address string, interval time.Duration) error {
	w, err := udsipc.NewWriter(address, udsipc.WithAcknowledgements(), udsipc.WithCloseTimeout(closeTimeout))
	if err != nil {
		return err
	}
	if err := w.Start(); err != nil {
		return err
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for n := 1; ctx.Err() == nil; n++ {
		if err := w.WriteMessage(fmt.Appendf(nil, "agent %d lives, message %d", os.Getpid(), n)); err != nil {
			log.Print(err) // The queue is full: nobody has collected for hours.
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
	err = w.Close()
	m := w.Metrics()
	log.Printf("%d messages were handled, %d were not", m.Acknowledged, m.Undelivered)
	return err
}
