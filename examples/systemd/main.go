// SPDX-License-Identifier: Apache-2.0

// A collector for systemd: it writes each message as a line to standard output, which systemd hands
// to the journal. collector.socket and collector.service beside it start it at the first connection;
// docs/SYSTEMD.md explains them line by line.
package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/udsipc/udsipc"
)

func main() {
	log.SetFlags(0) // The journal has the time.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, handOver)
	if err := run(signals, "/run/collector/collector.sock", os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// run collects until a signal comes. The address is for a start by hand; systemd passes its own socket.
func run(signals <-chan os.Signal, address string, out io.Writer) error {
	var lines bytes.Buffer
	r, err := udsipc.NewBatchReader(func(_ context.Context, batch []udsipc.Delivery) error {
		lines.Reset()
		for i := range batch {
			lines.Write(batch[i].Data)
			lines.WriteByte('\n')
		}
		_, err := out.Write(lines.Bytes()) // One call for all of them.
		return err
	}, address, udsipc.WithSharedBatches(), udsipc.WithSystemdName("collector"))
	if err != nil {
		return err
	}
	if err := r.Start(); err != nil { // systemd hears READY=1 from here, and what is going on from then on.
		return err
	}
	end := r.Stop
	select {
	case got := <-signals:
		if got == handOver {
			end = r.HandOver // Another process comes: it goes on with the connections.
		}
	case <-r.Done(): // It cannot go on; systemd starts a new one.
	}
	// systemd bounds this (TimeoutStopSec=), and is told as long as it gets on.
	return errors.Join(end(context.Background()), r.Err())
}
