// SPDX-License-Identifier: Apache-2.0

package main

// This file compiles mutants, runs their tests with limits, and counts.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"
)

// The time limit of the compiler, and how long a process that a test left behind may keep its
// output open.
const (
	compileTime   = 5 * time.Minute
	outputTime    = 2 * time.Second
	timeoutFactor = 5 // How much longer than without a mutant the tests may take.
)

// A runner tries mutants of one package.
type runner struct {
	ctx    context.Context
	p      *pkg
	o      options
	stages []stage
	dir    string // For the compiled tests.
}

// A stage is test files that run together. Only mutants that the stages before have missed come to it.
type stage struct {
	name    string
	wants   func(test string) bool
	timeout time.Duration
}

// newRunner returns a runner with one stage, or with one more for the tests inside the package, which are mostly quick.
func newRunner(ctx context.Context, p *pkg, o options) (*runner, error) {
	all := func(test string) bool { return matches(o.tests, test) }
	inside := func(test string) bool { return all(test) && slices.Contains(p.inside, test) }
	stages := []stage{{name: "the tests", wants: all}}
	if o.inside && slices.ContainsFunc(p.tests, inside) {
		stages = slices.Insert(stages, 0, stage{name: "the tests inside the package", wants: inside})
	}
	dir, err := os.MkdirTemp("", "mu") // Short, because socket paths are limited.
	return &runner{ctx: ctx, p: p, o: o, stages: stages, dir: dir}, err
}

func (r *runner) close() { os.RemoveAll(r.dir) }

// An outcome is the result for one mutant.
type outcome struct {
	compiled, noticed bool
	by                string // The test that noticed it, or another reason.
	took              time.Duration
}

func (o outcome) String() string {
	switch {
	case !o.compiled:
		return "does not compile"
	case o.noticed:
		return "killed"
	}
	return "SURVIVED"
}

// baseline runs the tests without a mutant; they must pass. The time limit of mutants is a multiple
// of the time that this takes.
func (r *runner) baseline() error {
	for i := range r.stages {
		s := &r.stages[i]
		s.timeout = max(r.o.timeout, compileTime)
		result, err := r.tryStage(nil, s, "0")
		switch {
		case err != nil:
			return err
		case !result.compiled || result.noticed:
			return fmt.Errorf("mutate: %s fail before anything is changed: %s", s.name, result.by)
		}
		s.timeout = max(r.o.timeout, timeoutFactor*result.took)
		fmt.Printf("%s take %v, and may take %v\n", s.name, result.took.Round(time.Millisecond),
			s.timeout.Round(time.Millisecond))
	}
	return nil
}

// try runs the stages on a mutant, until one notices it.
func (r *runner) try(m *mutant, name string) (result outcome, err error) {
	for i := range r.stages {
		if result, err = r.tryStage(m, &r.stages[i], name); err != nil || !result.compiled || result.noticed {
			break
		}
	}
	return result, err
}

// tryStage compiles the tests of a stage with a mutant, or with none, and runs them.
func (r *runner) tryStage(m *mutant, s *stage, name string) (outcome, error) {
	dir := filepath.Join(r.dir, name)
	defer os.RemoveAll(dir)
	if err := os.MkdirAll(filepath.Join(dir, "t"), 0o700); err != nil {
		return outcome{}, err
	}
	overlay, err := r.p.overlay(m, s.wants, dir)
	if err != nil {
		return outcome{}, err
	}
	binary := filepath.Join(dir, "b")
	output, err := r.command(compileTime, nil, "go", "test", "-c", "-p", "1", "-vet=off",
		"-ldflags=-s -w", "-overlay", overlay, "-o", binary, r.p.path)
	if err != nil {
		return outcome{by: string(output)}, r.ctx.Err()
	}
	if _, err := os.Stat(binary); err != nil {
		return outcome{}, fmt.Errorf("mutate: %s has no tests", r.p.path)
	}
	// The shell limits the memory, if it can, and executes the test.
	script := "ulimit -v " + strconv.Itoa(r.o.memory<<10) + ` 2>/dev/null; exec "$0" "$@"`
	began := time.Now()
	output, err = r.command(s.timeout, []string{"TMPDIR=" + filepath.Join(dir, "t")}, "sh", "-c", script,
		binary, "-test.failfast", "-test.short="+strconv.FormatBool(r.o.short), "-test.run="+r.o.run,
		"-test.timeout="+(2*s.timeout).String())
	if r.ctx.Err() != nil {
		return outcome{}, r.ctx.Err()
	}
	return outcome{compiled: true, noticed: err != nil, by: reason(output, err), took: time.Since(began)}, nil
}

// command runs a command in the package's directory within a time limit. The processes that it
// started end with it.
func (r *runner) command(limit time.Duration, env []string, name string, arguments ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(r.ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, arguments...)
	cmd.Dir = r.p.dir
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = outputTime
	output := &head{room: 1 << 20}
	cmd.Stdout, cmd.Stderr = output, output
	group(cmd)
	err := cmd.Run()
	endGroup(cmd)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return output.Bytes(), err
}

// A head keeps the beginning of the bytes that are written to it.
type head struct {
	bytes.Buffer
	room int
}

func (h *head) Write(b []byte) (int, error) {
	n := min(len(b), h.room)
	h.room -= n
	h.Buffer.Write(b[:n])
	return len(b), nil
}

var (
	failure = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	ending  = regexp.MustCompile(`(?m)^(panic: .*|fatal error: .*|goroutines are left behind.*)$`)
)

// reason returns the test or other cause that noticed a mutant.
func reason(output []byte, err error) string {
	if err == nil {
		return ""
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "its time"
	}
	for _, form := range []*regexp.Regexp{failure, ending} {
		if found := form.FindSubmatch(output); found != nil {
			return string(found[1])
		}
	}
	return err.Error() + " " + string(output[:min(len(output), 200)])
}

// A score counts outcomes.
type score struct {
	killed, survived, broken int
	err                      error
}

// all tries the mutants and prints each outcome in order.
func (r *runner) all(chosen []mutant) (s score) {
	outcomes := make([]chan outcome, len(chosen))
	for i := range outcomes {
		outcomes[i] = make(chan outcome, 1)
	}
	next := make(chan int)
	var failed error
	var once sync.Once
	for range r.o.workers {
		go func() { // Ends with the mutants.
			for i := range next {
				result, err := r.try(&chosen[i], strconv.Itoa(i+1))
				if err != nil {
					once.Do(func() { failed = err })
					close(outcomes[i])
					continue
				}
				outcomes[i] <- result
			}
		}()
	}
	go func() { // The same.
		for i := range chosen {
			next <- i
		}
		close(next)
	}()
	for i, m := range chosen {
		result, ok := <-outcomes[i]
		if !ok {
			s.err = failed
			return s
		}
		s.count(m, result)
	}
	return s
}

func (s *score) count(m mutant, result outcome) {
	switch {
	case !result.compiled:
		s.broken++
	case result.noticed:
		s.killed++
	default:
		s.survived++
	}
	if result.compiled && result.noticed {
		fmt.Printf("%s %s (%s)\n", result, m, result.by)
		return
	}
	fmt.Printf("%s %s\n", result, m)
}

// verdict prints the score. It returns an error if the score is below the required one.
func (s score) verdict(o options) error {
	if s.err != nil {
		return s.err
	}
	percent := 100.0
	if tried := s.killed + s.survived; tried > 0 {
		percent = 100 * float64(s.killed) / float64(tried)
	}
	fmt.Printf("%d killed, %d survived, %d did not compile: %.1f %%\n", s.killed, s.survived, s.broken, percent)
	switch {
	case o.equivalent && s.killed > 0:
		return fmt.Errorf("mutate: %d mutants are listed as equivalent and were noticed", s.killed)
	case !o.equivalent && percent < o.least:
		return fmt.Errorf("mutate: %.1f %% of the mutants were noticed, want %g", percent, o.least)
	}
	return nil
}
