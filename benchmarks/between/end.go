// SPDX-License-Identifier: Apache-2.0

package main

// A round has two processes, the receiver and the sender, both started by this binary as itself.
// Each gets a job as its argument and reports on its standard output, a line of JSON at a time.

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/udsipc/udsipc/benchmarks/contender"
)

// endArgument is the first argument of a process that is one end of a connection.
const endArgument = "-end"

// A job is one end's part of a round.
type job struct {
	Sends     bool // Else it receives.
	Contender string
	Dir       string
	Size      int
	Rate      float64 // Messages a second; 0 is as many as possible.
	Warm      time.Duration
	Measure   time.Duration
	Limit     time.Duration // The process ends after that, whatever happens.
}

// A report is what an end says. The receiver says once that it is ready.
type report struct {
	Ready         bool    `json:",omitempty"`
	Messages      uint64  `json:",omitempty"`
	Nanoseconds   int64   `json:",omitempty"` // The receiver's, from the first message to the last.
	ProcessorTime int64   `json:",omitempty"` // In nanoseconds.
	PeakMemory    int64   `json:",omitempty"` // In bytes.
	P50           float64 `json:",omitempty"` // The receiver's, in nanoseconds, as the next two.
	P99           float64 `json:",omitempty"`
	P999          float64 `json:",omitempty"`
	RateKept      float64 `json:",omitempty"` // The sender's share of the rate in the job.
}

// runEnd runs one end, if that is what this process was started for, and does not return then.
func runEnd() {
	if len(os.Args) != 3 || os.Args[1] != endArgument {
		return
	}
	if err := runJob(os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runJob(argument string) error {
	var j job
	if err := json.Unmarshal([]byte(argument), &j); err != nil {
		return fmt.Errorf("job %q: %w", argument, err)
	}
	time.AfterFunc(j.Limit, func() { exit(fmt.Errorf("%s: not done after %v", j.Contender, j.Limit)) })
	c, ok := contender.Named(j.Contender)
	if !ok {
		return fmt.Errorf("no contender %q", j.Contender)
	}
	stopped := followParent(j.Dir)
	var err error
	if j.Sends {
		err = runSender(j, c, stopped)
	} else {
		err = runReceiver(j, c)
	}
	if err != nil {
		return fmt.Errorf("%s, messages of %d bytes: %w", j.Contender, j.Size, err)
	}
	select {} // followParent ends the process.
}

// followParent ends the process as soon as the standard input ends, which it does when the parent
// closes it or dies. The channel gets a value for each line before.
func followParent(dir string) <-chan struct{} {
	lines := make(chan struct{}, 1)
	go func() { // Ends with the process.
		for s := bufio.NewScanner(os.Stdin); s.Scan(); {
			lines <- struct{}{}
		}
		os.RemoveAll(dir) // A parent that was killed could not do it.
		os.Exit(0)
	}()
	return lines
}

func exit(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// tell writes a report for the parent.
func tell(r report) error { return json.NewEncoder(os.Stdout).Encode(r) }
