// SPDX-License-Identifier: Apache-2.0

// Quickstart streams every line of real text from several writer processes to one collector process,
// restarts the collector on the way, and checks that every line arrived once and in order.
//
//	go run ./examples/quickstart [FILE or DIRECTORY]
//
// Without an argument it takes the source tree of the Go toolchain. It ends with a table and "every line
// arrived once, in order", or says what is wrong and has a status other than 0.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// writers is how many processes write.
const writers = 3

// The program starts itself again in one of these roles. They are an environment variable, so that no
// argument is mistaken for one.
const (
	roleVariable  = "UDSIPC_QUICKSTART_ROLE"
	roleCollector = "collector"
	roleWriter    = "writer"
)

func main() {
	flag.Usage = func() { fmt.Fprintln(os.Stderr, "usage: quickstart [FILE or DIRECTORY]") }
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	var err error
	switch os.Getenv(roleVariable) {
	case roleCollector:
		err = collect(ctx, flag.Arg(0), os.Stdin, os.Stdout)
	case roleWriter:
		err = write(ctx, flag.Args(), os.Stdin, os.Stdout)
	default:
		err = conduct(ctx, flag.Arg(0), os.Stdout, newDisplay(os.Stderr))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}
