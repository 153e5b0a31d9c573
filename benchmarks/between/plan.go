// SPDX-License-Identifier: Apache-2.0

package main

// What is measured: cells, each of which is one contender in one situation, round by round.

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"time"

	"github.com/udsipc/udsipc/benchmarks/contender"
)

// A placement gives each end its processor.
type placement struct {
	name             string
	sender, receiver int
}

// The kinds of cells.
const (
	throughput = "throughput"
	loaded     = "latency under load"
	lone       = "latency of a lone message"
)

const (
	loadedSize = 1 << 10 // Of messages under load.
	loneSize   = 128
	loneRate   = 1000 // A second.
)

var (
	throughputSizes = []int{128, 1 << 10, 16 << 10, 64 << 10, 1 << 20}
	loads           = []float64{0.1, 0.5, 0.9}
)

// A cell is one contender in one situation.
type cell struct {
	Placement string
	Contender string
	Kind      string
	Size      int
	Load      float64 `json:",omitempty"` // The share of its maximum that the contender gets.
	Rate      float64 `json:",omitempty"` // Messages a second; 0 is as many as possible.
}

// A result has what the rounds of a cell gave.
type result struct {
	cell
	Median sample   // Of each number by itself.
	Rounds []sample // In the order of time.
	Failed string   `json:",omitempty"` // The first error.
}

// A plan says how often and how long to measure.
type plan struct {
	rounds     int
	warm       time.Duration
	throughput time.Duration
	loaded     time.Duration
	lone       time.Duration
	only       *regexp.Regexp // The contenders to measure.
	progress   io.Writer
}

func fullPlan() plan {
	return plan{
		rounds: 5, warm: 50 * time.Millisecond,
		throughput: 250 * time.Millisecond, loaded: 350 * time.Millisecond, lone: 700 * time.Millisecond,
	}
}

func quickPlan() plan {
	return plan{
		rounds: 3, warm: 20 * time.Millisecond,
		throughput: 50 * time.Millisecond, loaded: 100 * time.Millisecond, lone: 200 * time.Millisecond,
	}
}

// contenders returns those that the plan measures.
func (p plan) contenders() []contender.Contender {
	return slices.DeleteFunc(slices.Clone(contender.All), func(c contender.Contender) bool {
		return c.Missing != "" || p.only != nil && !p.only.MatchString(c.Name)
	})
}

// run measures everything with both ends on the processors of a placement.
func (p plan) run(ctx context.Context, on placement) []result {
	var cells []cell
	for _, size := range throughputSizes {
		for _, c := range p.contenders() {
			if c.Largest == 0 || size <= c.Largest {
				cells = append(cells, cell{on.name, c.Name, throughput, size, 0, 0})
			}
		}
	}
	results := p.measure(ctx, on, "throughput", cells)
	return append(results, p.measure(ctx, on, "latency", p.latencyCells(on, results))...)
}

// latencyCells returns the cells with a rate, which depends on the throughput that was measured.
func (p plan) latencyCells(on placement, throughputs []result) []cell {
	var cells []cell
	for _, c := range p.contenders() {
		if !c.NoLone {
			cells = append(cells, cell{on.name, c.Name, lone, loneSize, 0, loneRate})
		}
	}
	for _, load := range loads {
		for _, c := range p.contenders() {
			if ns := nsPerMessage(throughputs, c.Name, loadedSize); ns > 0 && !c.NoLoad {
				cells = append(cells, cell{on.name, c.Name, loaded, loadedSize, load, load * 1e9 / ns})
			}
		}
	}
	return cells
}

func nsPerMessage(results []result, name string, size int) float64 {
	for _, r := range results {
		if r.Kind == throughput && r.Contender == name && r.Size == size {
			return r.Median.NsPerMessage
		}
	}
	return 0
}

// measure runs each cell once a round, so that whatever else the machine does meets all of them. A
// cell that fails is not run again.
func (p plan) measure(ctx context.Context, on placement, what string, cells []cell) []result {
	results := make([]result, len(cells))
	for round := range p.rounds {
		began := time.Now()
		for i, c := range cells {
			results[i].cell = c
			if results[i].Failed != "" || ctx.Err() != nil {
				continue
			}
			s, err := runRound(ctx, p.job(c), on)
			if err != nil {
				results[i].Failed = err.Error()
				fmt.Fprintf(p.progress, "%s, %s, %d bytes: %v\n", c.Contender, c.Kind, c.Size, err)
				continue
			}
			results[i].Rounds = append(results[i].Rounds, s)
		}
		fmt.Fprintf(p.progress, "%s, %s: round %d of %d took %.0f s\n",
			on.name, what, round+1, p.rounds, time.Since(began).Seconds())
	}
	for i := range results {
		results[i].Median = median(results[i].Rounds)
	}
	return results
}

func (p plan) job(c cell) job {
	measure := map[string]time.Duration{throughput: p.throughput, loaded: p.loaded, lone: p.lone}[c.Kind]
	return job{Contender: c.Contender, Size: c.Size, Rate: c.Rate, Warm: p.warm, Measure: measure}
}

// median returns the median of each number.
func median(samples []sample) sample {
	of := func(number func(sample) float64) float64 {
		var all []float64
		for _, s := range samples {
			all = append(all, number(s))
		}
		if len(all) == 0 {
			return 0
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	return sample{
		NsPerMessage:        of(func(s sample) float64 { return s.NsPerMessage }),
		MBPerSecond:         of(func(s sample) float64 { return s.MBPerSecond }),
		ProcessorPerMillion: of(func(s sample) float64 { return s.ProcessorPerMillion }),
		SenderProcessor:     of(func(s sample) float64 { return s.SenderProcessor }),
		SenderMiB:           of(func(s sample) float64 { return s.SenderMiB }),
		ReceiverMiB:         of(func(s sample) float64 { return s.ReceiverMiB }),
		P50:                 of(func(s sample) float64 { return s.P50 }),
		P99:                 of(func(s sample) float64 { return s.P99 }),
		P999:                of(func(s sample) float64 { return s.P999 }),
		RateKept:            of(func(s sample) float64 { return s.RateKept }),
	}
}
