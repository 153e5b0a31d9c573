// SPDX-License-Identifier: Apache-2.0

// Many processes send events, one stores them in an SQLite database: each event exactly once, whichever
// process is killed, and in a transaction for as many events as have arrived.
//
//	go run . collect -to events.db          stores events until it is interrupted
//	go run . send < events.json             sends the lines of standard input
//
// An event is a line of JSON. One that the database does not accept goes to the table dead_letters.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/udsipc/udsipc"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("sqlite", flag.ContinueOnError)
	address := flags.String("at", "events.sock", "the address of the collector")
	file := flags.String("to", "events.db", "the database")
	if len(arguments) == 0 {
		return errors.New("usage: sqlite collect|send [options]")
	}
	if err := flags.Parse(arguments[1:]); err != nil {
		return err
	}
	switch arguments[0] {
	case "collect":
		return collect(ctx, *address, *file)
	case "send":
		return send(ctx, *address, os.Stdin)
	}
	return fmt.Errorf("%s: want collect or send", arguments[0])
}

// collect stores events until ctx ends.
func collect(ctx context.Context, address, file string) error {
	store, err := openStore(file)
	if err != nil {
		return err
	}
	// SQLite has one writer at a time, so one transaction serves all connections.
	reader, err := udsipc.NewBatchReader(store.handle, address, udsipc.WithSharedBatches(),
		udsipc.WithMaxRedeliveries(0))
	if err == nil {
		err = reader.Run(ctx)
	}
	return errors.Join(err, store.Close())
}

// send sends each line of from. It returns when all of them are stored, or when ctx ends.
func send(ctx context.Context, address string, from io.Reader) (err error) {
	writer, err := udsipc.NewWriter(address, udsipc.WithAcknowledgements(), udsipc.WithOverflow(udsipc.OverflowBlock))
	if err != nil {
		return err
	}
	if err := writer.Start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, writer.Stop(ctx)) }() // It waits for the acknowledgements.
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		if err := writer.WriteMessageContext(ctx, lines.Bytes()); err != nil {
			return err
		}
	}
	return lines.Err()
}
