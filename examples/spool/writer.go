// SPDX-License-Identifier: Apache-2.0

package main

// This file is the writer process.

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/spool"
)

// The writer pauses after each burst, so that a run has about a million messages.
const (
	burst = 200
	pause = time.Millisecond
)

// write writes messages until ctx ends, and prints the number of each when it is in the spool. A message has the
// count of starts of the process and its number in it. At the end it waits until all are handled.
func write(ctx context.Context, dir, address string, start uint64, out io.Writer) error {
	w, err := spool.NewWriter(dir, address, spool.WithWriter(udsipc.WithMaxBackoff(50*time.Millisecond)))
	if err != nil {
		return err
	}
	if err := w.Start(); err != nil {
		return err
	}
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for n := uint64(1); ctx.Err() == nil; n++ {
		if err := w.WriteMessage(message(start, n)); err != nil {
			return errors.Join(err, w.Close())
		}
		// The message is in the spool. A kill between these two lines makes it one that nobody knows of.
		if _, err := fmt.Fprintln(out, n); err != nil {
			return errors.Join(err, w.Close())
		}
		if n%burst == 0 {
			<-ticker.C
		}
	}
	stop, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return w.Stop(stop)
}

// messageSize is the size of a message in bytes.
const messageSize = 16

// message is a message of a start of the writer.
func message(start, n uint64) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, messageSize), start)
	return binary.BigEndian.AppendUint64(b, n)
}
