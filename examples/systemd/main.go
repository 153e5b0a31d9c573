// SPDX-License-Identifier: Apache-2.0

// A collector for systemd: it writes each message as a line to standard output, which systemd hands
// to the journal. collector.socket and collector.service beside it start it at the first connection.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/udsipc/udsipc"
)

// stopTime is how long what was sent may take to be handled at the end: less than the 90 s that
// systemd allows (TimeoutStopSec=, systemd.service(5)).
const stopTime = 60 * time.Second

func main() {
	log.SetFlags(0) // The journal has the time.
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, "/run/collector/collector.sock", os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// run collects until ctx ends. The address is for a start by hand; systemd passes its own socket.
func run(ctx context.Context, address string, out io.Writer) error {
	var mu sync.Mutex // Handlers of different connections run at once.
	lines := bufio.NewWriter(out)
	r, err := udsipc.NewReader(func(data []byte) error {
		mu.Lock()
		defer mu.Unlock()
		if _, err := fmt.Fprintf(lines, "%s\n", data); err != nil {
			return err
		}
		return lines.Flush()
	}, address, udsipc.WithSystemdName("collector"), udsipc.WithReaderErrorCallback(func(err error, context string) {
		log.Printf("%s: %v", context, err)
	}))
	if err != nil {
		return err
	}
	if err := r.Start(); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-r.Done(): // It cannot go on; systemd starts a new one.
	}
	stop, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	return errors.Join(r.Stop(stop), r.Err())
}
