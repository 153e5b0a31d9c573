// SPDX-License-Identifier: Apache-2.0

package main

// This file is a writer process: every third file, line by line.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/udsipc/udsipc"
)

// written is what a writer process prints at its end.
type written struct {
	tally
	Writes  uint64 `json:"writes"`
	Dropped uint64 `json:"dropped"`
}

// write is the program of a writer process: its arguments are the socket, its number, and the source.
// It gives up when in ends, so that it never outlives the one who started it.
func write(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := atEnd(in)
	go func() { // Ends with in, or with ctx.
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	if len(args) != 3 {
		return errors.New("a writer takes a socket, a number and a source")
	}
	number, err := strconv.ParseUint(args[1], 10, 8)
	if err != nil {
		return err
	}
	files, _, err := sourceFiles(args[2])
	if err != nil {
		return err
	}
	// What cannot be sent at once waits, so the files are read as fast as the collector takes them.
	w, err := udsipc.NewWriter(args[0], udsipc.WithOverflow(udsipc.OverflowBlock),
		udsipc.WithMaxBackoff(100*time.Millisecond))
	if err != nil {
		return err
	}
	if err := w.Start(); err != nil {
		return err
	}
	sum, err := writeFiles(ctx, w, byte(number), files)
	if stopErr := w.Stop(ctx); err == nil {
		err = stopErr
	}
	if err != nil {
		return fmt.Errorf("writer %d: %w", number, err)
	}
	m := w.Metrics()
	dropped := m.Dropped + m.Refused + m.Expired + m.Undelivered + m.PossiblyLost
	return json.NewEncoder(out).Encode(written{tally: sum, Writes: m.Writes, Dropped: dropped})
}

// writeFiles sends the lines of this writer's share of the files.
func writeFiles(ctx context.Context, w *udsipc.Writer, writer byte, files []string) (sum tally, err error) {
	var message []byte
	for i, path := range files {
		if i%writers != int(writer) {
			continue
		}
		err := eachLine(path, func(line []byte) error {
			message = appendLine(message[:0], writer, sum.Lines, line)
			sum.add(message, line)
			return w.WriteMessageContext(ctx, message)
		})
		if err != nil {
			return sum, err
		}
	}
	return sum, nil
}
