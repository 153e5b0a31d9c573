// SPDX-License-Identifier: Apache-2.0

// An agent for systemd that keeps its lines on disk until the collector has them: over its own end and over
// days without a collector. spoolagent.service one directory up runs it; docs/SPOOL.md explains it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/spool"
)

const closeTimeout = 10 * time.Second // For what is in the spool to be delivered; less than TimeoutStopSec=.

func main() {
	log.SetFlags(0) // The journal has the time.
	interval := flag.Duration("interval", time.Second, "between two lines")
	flag.Parse()
	state := os.Getenv("STATE_DIRECTORY") // From StateDirectory=.
	if state == "" {
		log.Fatal("there is no STATE_DIRECTORY: run it as a service, or set it to a directory")
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, filepath.Join(state, "spool"), "/run/collector/collector.sock", *interval); err != nil {
		log.Fatal(err)
	}
}

// run sends until ctx ends.
func run(ctx context.Context, dir, address string, interval time.Duration) error {
	w, err := spool.NewWriter(dir, address,
		spool.WithWriter(udsipc.WithCloseTimeout(closeTimeout), udsipc.WithMaxBackoff(time.Second)))
	if err != nil {
		return err
	}
	if err := w.Start(); err != nil {
		return errors.Join(err, w.Close())
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for n := 1; ctx.Err() == nil; n++ {
		if err := w.WriteMessage(fmt.Appendf(nil, "agent %d lives, message %d", os.Getpid(), n)); err != nil {
			log.Print(err) // The spool is full, or the disk.
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
	err = w.Close() // Sends what it can.
	m := w.Metrics()
	log.Printf("%d messages were handled, %d are left", m.Sent, m.Queued)
	return err
}
