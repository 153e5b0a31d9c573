// SPDX-License-Identifier: Apache-2.0

// Between compares udsipc with other systems that send messages between two processes of one
// machine. It starts itself twice for each round, as receiver and as sender:
//
//	go run ./between
//	go run -tags zmq ./between -json results.json -charts .
//	go run ./between -quick -only 'udsipc|bufio'
//	go run ./between -draw results.json -charts .
//
// The two ends have a core each in the first tables, and share one in the second. Throughput is
// what the receiver counts from one message to another in the stream. Latency is the time from the
// point at which a message was due, on a schedule, to the receiver. Processor time and memory are
// those of both processes.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/udsipc/udsipc/benchmarks/contender"
)

// A comparison is what a run measures, and what its JSON has.
type comparison struct {
	Go         string
	System     string
	Processors int
	Rounds     int
	Began      time.Time
	Seconds    float64           // That it took.
	Missing    map[string]string // Contenders that this build has not, and why.
	Results    []result
}

type flags struct {
	quick        bool
	rounds       int
	only         string
	cpus         string
	json, charts string
	draw         string
}

func main() {
	runEnd()
	var f flags
	flag.BoolVar(&f.quick, "quick", false, "take three short rounds, to see that everything runs")
	flag.IntVar(&f.rounds, "rounds", 0, "how often each contender runs (default 5, with -quick 3)")
	flag.StringVar(&f.only, "only", "", "a regular expression: run only the contenders that it matches")
	flag.StringVar(&f.cpus, "cpus", "", "two processors for sender and receiver, as in 0,1 (default the first two)")
	flag.StringVar(&f.json, "json", "", "write all results to this file")
	flag.StringVar(&f.charts, "charts", "", "write throughput.svg and latency.svg to this directory")
	flag.StringVar(&f.draw, "draw", "", "measure nothing, show the results in this file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, f)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f flags) error {
	c, err := load(f.draw)
	if f.draw == "" {
		c, err = measure(ctx, f)
	}
	if err != nil {
		return err
	}
	c.write(os.Stdout)
	if f.json != "" {
		text, err := json.MarshalIndent(c, "", "\t")
		if err != nil {
			return err
		}
		if err := os.WriteFile(f.json, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	if f.charts != "" {
		if err := c.drawThroughput(filepath.Join(f.charts, "throughput.svg")); err != nil {
			return err
		}
		if err := c.drawLatency(filepath.Join(f.charts, "latency.svg")); err != nil {
			return err
		}
	}
	for _, r := range c.Results {
		if r.Failed != "" {
			return fmt.Errorf("%s, %s, %s failed: %s", r.Placement, r.Contender, r.Kind, r.Failed)
		}
	}
	return nil
}

func load(name string) (*comparison, error) {
	if name == "" {
		return nil, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	c := new(comparison)
	return c, json.Unmarshal(text, c)
}

func measure(ctx context.Context, f flags) (*comparison, error) {
	p := fullPlan()
	if f.quick {
		p = quickPlan()
	}
	if f.rounds > 0 {
		p.rounds = f.rounds
	}
	p.progress = os.Stderr
	var err error
	if p.only, err = regexp.Compile(f.only); err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	if len(p.contenders()) == 0 {
		return nil, fmt.Errorf("-only %s: no contender has such a name", f.only)
	}
	placements, err := place(f.cpus)
	if err != nil {
		return nil, err
	}
	c := &comparison{
		Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, Processors: runtime.NumCPU(),
		Rounds: p.rounds, Began: time.Now().UTC().Truncate(time.Second), Missing: map[string]string{},
	}
	for _, each := range contender.All {
		if each.Missing != "" {
			c.Missing[each.Name] = each.Missing
		}
	}
	for _, on := range placements {
		c.Results = append(c.Results, p.run(ctx, on)...)
	}
	c.Seconds = time.Since(c.Began).Seconds()
	return c, ctx.Err() // An interrupted comparison has no medians.
}

// place returns where the two ends run: on a core each, if there are two, and on the same core.
func place(cpus string) ([]placement, error) {
	all, err := processors()
	if err != nil {
		return nil, err
	}
	if cpus != "" {
		all = nil
		for number := range strings.SplitSeq(cpus, ",") {
			n, err := strconv.Atoi(number)
			if err != nil {
				return nil, fmt.Errorf("-cpus %s: %w", cpus, err)
			}
			all = append(all, n)
		}
	}
	shared := placement{"Both ends on one core", all[0], all[0]}
	if len(all) < 2 {
		return []placement{shared}, nil
	}
	return []placement{{"A core for each end", all[0], all[1]}, shared}, nil
}
