// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// A sample is the outcome of one round.
type sample struct {
	NsPerMessage        float64 // At the receiver.
	MBPerSecond         float64
	ProcessorPerMillion float64 // Seconds of both ends for a million messages.
	SenderProcessor     float64 // The sender's part of that.
	SenderMiB           float64 // The largest resident set.
	ReceiverMiB         float64
	P50                 float64 `json:",omitempty"` // Microseconds from the schedule to the receiver.
	P99                 float64 `json:",omitempty"`
	P999                float64 `json:",omitempty"`
	RateKept            float64 `json:",omitempty"` // The share of the rate that the sender kept.
}

// aroundRound is how long the two processes may take to start and to end.
const aroundRound = 15 * time.Second

// runRound starts both ends, each on its processor, and waits for their reports.
func runRound(ctx context.Context, j job, on placement) (sample, error) {
	dir, err := os.MkdirTemp("", "between")
	if err != nil {
		return sample{}, err
	}
	defer os.RemoveAll(dir)
	j.Dir = dir
	j.Limit = aroundRound + 4*(j.Warm+j.Measure)
	ctx, cancel := context.WithTimeout(ctx, j.Limit)
	defer cancel()

	receiver, err := startEnd(ctx, j, on.receiver)
	if err != nil {
		return sample{}, err
	}
	defer receiver.stop()
	if _, ok := <-receiver.reports; !ok { // It is ready.
		return sample{}, fmt.Errorf("the receiver did not start: %w", receiver.err)
	}
	j.Sends = true
	sender, err := startEnd(ctx, j, on.sender)
	if err != nil {
		return sample{}, err
	}
	defer sender.stop()
	return collect(j, sender, receiver)
}

func collect(j job, sender, receiver *process) (sample, error) {
	var received report
	select {
	case r, ok := <-receiver.reports:
		if !ok {
			return sample{}, fmt.Errorf("the receiver: %w", receiver.err)
		}
		received = r
	case <-sender.reports:
		return sample{}, fmt.Errorf("the sender: %w", sender.err)
	}
	if _, err := io.WriteString(sender.stdin, "stop\n"); err != nil {
		return sample{}, err
	}
	sent, ok := <-sender.reports
	if !ok {
		return sample{}, fmt.Errorf("the sender: %w", sender.err)
	}
	if received.Messages == 0 {
		return sample{}, errors.New("no message arrived")
	}
	n := float64(received.Messages)
	ns := float64(received.Nanoseconds) / n
	return sample{
		NsPerMessage:        ns,
		MBPerSecond:         float64(j.Size) / ns * 1000,
		ProcessorPerMillion: float64(received.ProcessorTime+sent.ProcessorTime) / n / 1000,
		SenderProcessor:     float64(sent.ProcessorTime) / n / 1000,
		SenderMiB:           float64(sent.PeakMemory) / (1 << 20),
		ReceiverMiB:         float64(received.PeakMemory) / (1 << 20),
		P50:                 received.P50 / 1000,
		P99:                 received.P99 / 1000,
		P999:                received.P999 / 1000,
		RateKept:            sent.RateKept,
	}, nil
}
