// SPDX-License-Identifier: Apache-2.0

package main

// This file checks what the reader has stored against what the writer has accepted.

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/udsipc/udsipc"
)

// report prints what happened, and whether it was right.
func (r *run) report(out io.Writer, records []record) error {
	unknown, err := check(records, r.accepted)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\nseconds\t%.1f\n", time.Since(r.began).Seconds())
	fmt.Fprintf(t, "kills of the writer\t%d\n", r.writers.killed.Load())
	fmt.Fprintf(t, "kills of the reader\t%d\n", r.readers.killed.Load())
	fmt.Fprintf(t, "messages that the writer printed as accepted\t%d\n", r.written.Load())
	fmt.Fprintf(t, "written at the moment of a kill, and there\t%d\n", unknown)
	fmt.Fprintf(t, "messages handled\t%d\n", len(records))
	fmt.Fprintf(t, "came again, known by their number\t%d\n", r.known.Load())
	if err := errors.Join(err, t.Flush()); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "\nEach message was handled once, in order.")
	return err
}

// check compares the records with the last message that each start of the writer has printed as
// accepted. It returns how many messages are there that were not printed: at most one of each start,
// whose write had not returned.
func check(records []record, accepted []uint64) (unknown uint64, err error) {
	got := make([]uint64, len(accepted)) // Of each start: the number of its last message.
	last := map[udsipc.WriterID]uint64{}
	start := uint64(0)
	for i, r := range records {
		switch {
		case r.seq != last[r.writer]+1:
			return 0, fmt.Errorf("record %d has the number %d of writer %v, after %d", i, r.seq, r.writer, last[r.writer])
		case r.start < start || r.start >= uint64(len(accepted)):
			return 0, fmt.Errorf("record %d is of start %d, after one of start %d", i, r.start, start)
		case r.n != got[r.start]+1:
			return 0, fmt.Errorf("record %d is message %d of start %d, after %d", i, r.n, r.start, got[r.start])
		}
		last[r.writer], start, got[r.start] = r.seq, r.start, r.n
	}
	for start, n := range accepted {
		if got[start] < n || got[start] > n+1 {
			return 0, fmt.Errorf("start %d: %d messages were accepted, %d handled", start, n, got[start])
		}
		unknown += got[start] - n
	}
	return unknown, nil
}
