// SPDX-License-Identifier: Apache-2.0

package main

// This file writes what listen receives to the standard output, and waits while a disk is full.

import (
	"context"
	"errors"
	"io"
	"syscall"
	"time"
)

// An output is where listen writes to.
type output interface {
	// write writes a whole number of messages. After nil they are there; an error is final. It waits while the disk
	// is full, until ctx ends.
	write(ctx context.Context, console *console, text []byte) error
	reopen() // Has the next write open the file anew.
	close()
}

const (
	fullRetry  = 100 * time.Millisecond // After the disk was full.
	fullReport = time.Minute            // Between two reports of that.
)

// A stream is the standard output.
type stream struct{ to io.Writer }

func (s stream) write(ctx context.Context, console *console, text []byte) error {
	return retryFull(ctx, console, "the standard output", func() error {
		n, err := s.to.Write(text)
		text = text[n:] // The rest is written when there is room.
		if isBrokenPipe(err) {
			return errBrokenPipe
		}
		return err
	})
}

// isBrokenPipe reports whether a write failed because nobody reads.
func isBrokenPipe(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe)
}

func (s stream) reopen() {}

func (s stream) close() {}

// retryFull calls write until the disk has room.
func retryFull(ctx context.Context, console *console, name string, write func() error) error {
	err := write()
	if !isFull(err) {
		return err
	}
	ticker := time.NewTicker(fullRetry)
	defer ticker.Stop()
	began := time.Now()
	reported := time.Time{}
	for isFull(err) {
		if now := time.Now(); now.Sub(reported) >= fullReport {
			reported = now
			console.logf("%s: %v; nothing is acknowledged until there is room", name, err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return err
		}
		err = write()
	}
	if err == nil {
		console.logf("%s: there is room again, after %v", name, time.Since(began).Round(time.Millisecond))
	}
	return err
}
