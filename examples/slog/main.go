// SPDX-License-Identifier: Apache-2.0

// A program that logs with log/slog to a collector, with package sloghandler: each record is one
// message, in JSON. Logging never waits for the collector; what does not fit into the queue while that
// is away is counted.
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

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/sloghandler"
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

// logTo is a program as it might be yours.
func logTo(socket string) (err error) {
	w, err := udsipc.NewWriter(socket)
	if err != nil {
		return err
	}
	if err := w.Start(); err != nil {
		return err
	}
	handler := sloghandler.NewJSON(w, &slog.HandlerOptions{Level: slog.LevelDebug})
	defer func() {
		err = errors.Join(err, w.Close()) // Sends what is queued.
		if dropped := handler.Dropped(); dropped > 0 {
			fmt.Fprintln(os.Stderr, dropped, "records did not fit into the queue")
		}
	}()
	logger := slog.New(handler)
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
