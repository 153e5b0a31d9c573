// SPDX-License-Identifier: Apache-2.0

// Deliver sends what a process that is gone has left in its spool: for ExecStopPost= of a service, or by
// hand. It returns when all is handled. A spool that is missing has nothing to deliver.
//
//	deliver [-timeout 10s] DIRECTORY ADDRESS
//
// The status is 0 if nothing is left and nothing is lost, else 1, with the reason on standard error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/spool"
)

func main() {
	timeout := flag.Duration("timeout", 10*time.Second, "how long to wait for the reader; 0 is for ever")
	flag.Usage = func() { fmt.Fprintln(os.Stderr, "usage: deliver [-timeout 10s] DIRECTORY ADDRESS") }
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := deliver(ctx, flag.Arg(0), flag.Arg(1), *timeout); err != nil {
		fmt.Fprintln(os.Stderr, "deliver:", err)
		os.Exit(1)
	}
}

// maxBackoff is how long a reader that has come may wait for the next attempt: not long, because time is short.
const maxBackoff = 500 * time.Millisecond

// deliver waits for the reader until ctx ends, or a timeout that is not 0.
func deliver(ctx context.Context, dir, address string, timeout time.Duration) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	err := spool.Deliver(ctx, dir, address, spool.WithWriter(udsipc.WithMaxBackoff(maxBackoff)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // There is no spool.
	}
	return err
}
