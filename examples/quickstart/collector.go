// SPDX-License-Identifier: Apache-2.0

package main

// This file is the collector process. It takes over where the one before it stopped, and hands on how
// far it came.

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/udsipc/udsipc"
)

// progressInterval is how often a collector says how far it is.
const progressInterval = 20 * time.Millisecond

// collected is what a collector knows: it prints this as a line of JSON, again and again, and its
// successor reads the last one.
type collected struct {
	tally
	Next   [writers]uint64 `json:"next"` // The number of the next message of each writer.
	Reads  uint64          `json:"reads"`
	Faults []string        `json:"faults,omitempty"`
}

// maxFaults is how many faults are told in words.
const maxFaults = 5

// take accounts for one message.
func (c *collected) take(message []byte) {
	writer, number, line, err := parseLine(message)
	switch {
	case err != nil:
		c.fault(err.Error())
		return
	case int(writer) >= writers:
		c.fault(fmt.Sprintf("a message of writer %d", writer))
		return
	case number != c.Next[writer]:
		c.fault(fmt.Sprintf("writer %d: message %d came when %d was due", writer, number, c.Next[writer]))
	}
	c.Next[writer] = number + 1
	c.add(message, line)
}

func (c *collected) fault(text string) {
	if len(c.Faults) < maxFaults {
		c.Faults = append(c.Faults, text)
	}
}

// stopTime is how long a collector may take to handle what was sent to it.
const stopTime = 30 * time.Second

// collect is the program of a collector process. It reads what its predecessor knew from in, and
// stops gracefully when ctx ends, or in, so that it never outlives the one who started it.
func collect(ctx context.Context, socket string, in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	var state collected
	if line, err := lines.ReadBytes('\n'); err != nil {
		return err
	} else if err := json.Unmarshal(line, &state); err != nil {
		return err
	}
	var mu sync.Mutex // Guards state: each writer's messages come on a goroutine of their own.
	before := state.Reads
	r, err := udsipc.NewReader(func(message []byte) error {
		mu.Lock()
		defer mu.Unlock()
		state.take(message)
		return nil
	}, socket)
	if err != nil {
		return err
	}
	if err := r.Start(); err != nil {
		return err
	}
	report := func() error {
		mu.Lock()
		defer mu.Unlock()
		state.Reads = before + r.Metrics().Reads
		return json.NewEncoder(out).Encode(state)
	}
	if err := reportUntil(ctx, atEnd(lines), report); err != nil {
		return err
	}
	stop, cancel := context.WithTimeout(context.Background(), stopTime) // ctx may have ended.
	defer cancel()
	if err := r.Stop(stop); err != nil {
		return err
	}
	return report()
}

// atEnd returns a channel that is closed when in ends, which it does when the one who started this
// process ends or closes it.
func atEnd(in io.Reader) <-chan struct{} {
	ended := make(chan struct{})
	go func() { // Ends with in, or with the process.
		defer close(ended)
		_, _ = io.Copy(io.Discard, in)
	}()
	return ended
}

// reportUntil reports at intervals until it is time to stop.
func reportUntil(ctx context.Context, ended <-chan struct{}, report func() error) error {
	ticker := time.NewTicker(progressInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if err := report(); err != nil {
				return err
			}
		case <-ended:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}
