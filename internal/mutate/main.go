// SPDX-License-Identifier: Apache-2.0

// Command mutate changes a package in one place at a time and runs the package's quick tests on
// each such mutant. A mutant that the tests do not notice has survived. Then a test is missing, or
// the change has no effect; such a mutant is listed in equivalent.txt with the reason.
//
//	go run ./internal/mutate -seed 1 -n 40 ./codec
//	go run ./internal/mutate -files 'take.go,push.go' -run Queue ./internal/queue
//
// The tree is not changed: a mutant is compiled once with an overlay. Its tests run with -short and
// -failfast, in limited time and memory. The same seed gives the same mutants.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

// options has the flags of the command line.
type options struct {
	seed       uint64
	n          int
	timeout    time.Duration
	memory     int
	workers    int
	least      float64
	files      string
	tests      string
	run        string
	match      string
	inside     bool
	short      bool
	list       bool
	equivalent bool
}

func parseOptions(arguments []string) (o options, patterns []string, err error) {
	f := flag.NewFlagSet("mutate", flag.ContinueOnError)
	f.Uint64Var(&o.seed, "seed", 1, "the seed of the sample")
	f.IntVar(&o.n, "n", 40, "how many mutants are tried; 0: all")
	f.DurationVar(&o.timeout, "timeout", 5*time.Second, "how long the tests of a mutant may run, "+
		"if not five times as long as without it; one that takes longer is noticed")
	f.IntVar(&o.memory, "memory", 4096, "the address space of the tests, in MiB (where ulimit bounds it)")
	f.IntVar(&o.workers, "workers", 2, "how many mutants are tried at once, 1 or 2")
	f.Float64Var(&o.least, "least", 0, "fail if fewer percent are noticed")
	f.StringVar(&o.files, "files", "*.go", "which files are changed: patterns, with commas between")
	f.StringVar(&o.tests, "tests", "*_test.go", "which test files are compiled: patterns, with commas between")
	f.StringVar(&o.run, "run", "", "which tests run, as of go test")
	f.BoolVar(&o.inside, "inside", false,
		"run the test files of the package itself first, and all, those of package x_test too, for what they miss")
	f.StringVar(&o.match, "match", "", "only mutants whose line of output contains this")
	f.BoolVar(&o.short, "short", true, "run the tests with -short")
	f.BoolVar(&o.list, "list", false, "only list the mutants")
	f.BoolVar(&o.equivalent, "equivalent", false, "only try those that are listed as equivalent, which none may notice")
	if err := f.Parse(arguments); err != nil {
		return o, nil, err
	}
	if f.NArg() == 0 {
		return o, nil, errors.New("mutate: want a package")
	}
	if o.workers < 1 || o.workers > 2 {
		return o, nil, fmt.Errorf("mutate: %d workers, want 1 or 2", o.workers)
	}
	return o, f.Args(), nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	o, patterns, err := parseOptions(os.Args[1:])
	for _, pattern := range patterns {
		err = errors.Join(err, mutate(ctx, o, pattern))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		stop()
		os.Exit(1)
	}
}

func mutate(ctx context.Context, o options, pattern string) error {
	p, err := load(ctx, pattern)
	if err != nil {
		return err
	}
	known, err := parseEquivalents(equivalentText)
	if err != nil {
		return err
	}
	chosen, skipped := choose(p, known, o)
	if o.equivalent {
		for _, entry := range known.stale(p) {
			fmt.Println("no such mutant:", entry)
		}
	}
	if o.list {
		for _, m := range chosen {
			fmt.Println(m)
		}
		return nil
	}
	fmt.Printf("%s: %d of %d mutants, seed %d, %d left out, see equivalent.txt\n", p.path,
		len(chosen), len(p.mutants), o.seed, skipped)
	r, err := newRunner(ctx, p, o)
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.baseline(); err != nil {
		return err
	}
	return r.all(chosen).verdict(o)
}

// choose returns the mutants of the sample that compile, and how many others are listed as
// equivalent.
func choose(p *pkg, known equivalents, o options) (chosen []mutant, skipped int) {
	rng := rand.New(rand.NewPCG(o.seed, 0))
	for _, i := range rng.Perm(len(p.mutants)) {
		m := p.mutants[i]
		if o.n > 0 && len(chosen) == o.n {
			break
		}
		if !matches(o.files, filepath.Base(m.name)) || !strings.Contains(m.String(), o.match) || p.check(m) != nil {
			continue
		}
		if known.has(m) != o.equivalent {
			skipped++
			continue
		}
		chosen = append(chosen, m)
	}
	return chosen, skipped
}

// matches reports whether a name matches one of the patterns. An invalid pattern matches nothing.
func matches(patterns, name string) bool {
	for pattern := range strings.SplitSeq(patterns, ",") {
		if ok, err := filepath.Match(pattern, name); ok && err == nil {
			return true
		}
	}
	return false
}
