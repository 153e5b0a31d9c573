// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
)

// A process is an end of a connection, seen from its parent.
type process struct {
	stdin   io.WriteCloser
	reports chan report // Closed when the process has ended.
	err     error       // Why it ended; valid when reports is closed.
}

// startEnd starts this binary as an end of a connection on one processor. The process ends with
// ctx, when its standard input is closed, and by itself after the limit of the job.
func startEnd(ctx context.Context, j job, processor int) (*process, error) {
	argument, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, endArgument, string(argument))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := pinned(processor, cmd.Start); err != nil {
		return nil, err
	}
	p := &process{stdin: stdin, reports: make(chan report, 2)}
	go func() { // Ends with the process, which stop waits for.
		defer close(p.reports)
		var r report
		for lines := json.NewDecoder(stdout); lines.Decode(&r) == nil; r = (report{}) {
			p.reports <- r
		}
		if p.err = cmd.Wait(); p.err == nil {
			p.err = errors.New("ended too early")
		}
	}()
	return p, nil
}

// stop ends the process and waits for it.
func (p *process) stop() {
	p.stdin.Close()
	for range p.reports {
	}
}
