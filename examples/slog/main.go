// SPDX-License-Identifier: Apache-2.0

// A program that logs with log/slog to a collector: each record is one message, in JSON. Logging
// never waits for the collector; what does not fit into the queue while that is away is counted.
//
//	go run ./examples/slog           with a collector of its own, to see something
//	go run ./examples/slog SOCKET    with the one that listens there
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/udsipc/udsipc"
)

func main() {
	var err error
	if len(os.Args) > 1 {
		err = logTo(os.Args[1])
	} else {
		err = demonstrate(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "slog:", err)
		os.Exit(1)
	}
}

// messages makes a message of each Write. A slog handler calls Write once for each record, with the
// newline that ends it (log/slog, JSONHandler.Handle); a message needs no newline.
type messages struct{ writer *udsipc.Writer }

func (m messages) Write(record []byte) (int, error) {
	message := record
	if n := len(message); n > 0 && message[n-1] == '\n' {
		message = message[:n-1]
	}
	if err := m.writer.WriteMessage(message); err != nil {
		return 0, err // The logger drops it, and Metrics().Refused counts it.
	}
	return len(record), nil
}

// newHandler returns a handler whose records go to the collector through w.
func newHandler(w *udsipc.Writer, opts *slog.HandlerOptions) slog.Handler {
	return slog.NewJSONHandler(messages{writer: w}, opts)
}

// logTo is a program as it might be yours.
func logTo(socket string) (err error) {
	w, err := udsipc.NewWriter(socket)
	if err != nil {
		return err
	}
	if err := w.Start(); err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err = errors.Join(err, w.Stop(ctx)) // Sends what is queued.
		if _, dropped, _, _ := w.GetMetrics(); dropped > 0 {
			fmt.Fprintln(os.Stderr, dropped, "records did not fit into the queue")
		}
	}()
	logger := slog.New(newHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
	logger.Info("started", "pid", os.Getpid())
	logger.Warn("disk is filling up", slog.Group("disk", "path", "/var", "percent", 91))
	return nil
}

// demonstrate is logTo with a collector that prints what arrives.
func demonstrate(out io.Writer) error {
	dir, err := os.MkdirTemp("", "slog")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "log.sock")
	r, err := udsipc.NewReader(func(data []byte) error {
		_, err := fmt.Fprintf(out, "%s\n", data)
		return err
	}, socket)
	if err != nil {
		return err
	}
	if err := r.Start(); err != nil {
		return err
	}
	return errors.Join(logTo(socket), r.Stop(context.Background()))
}
