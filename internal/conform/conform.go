// SPDX-License-Identifier: Apache-2.0

// Package conform puts any implementation of the protocol through its cases. Reader is the other end of a Reader under
// test: it connects, sends what a writer sends, correct or not, and checks the replies. Writer is the other end of a
// Writer under test. Both print a table. docs/CLIENTS.md tells what the program under test has to do, and
// docs/PROTOCOL.md has the rules that the cases check.
package conform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// ErrFailed is returned if a case has failed. The table tells which.
var ErrFailed = errors.New("the implementation does not conform")

// Options are what the cases need beside an address. The zero value is usable.
type Options struct {
	Timeout time.Duration // Of each wait for the other side; 5 s by default.

	// Command starts the program under test, with its arguments. Without one it runs already: a Reader for all cases, a
	// Writer anew for each of them. With one a Reader is also killed and started again.
	Command []string

	// Handled has a line for each message that a Reader has handled: what Command prints, if there is one. Without both,
	// only what the wire tells is checked.
	Handled io.Reader

	Messages int       // How many messages a Writer sends; 100,000 by default.
	Stderr   io.Writer // Gets what Command writes to its standard error.
	Verbose  bool      // Print each case when it begins.
}

func (o Options) withDefaults() Options {
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Messages <= 0 {
		o.Messages = 100_000
	}
	if o.Stderr == nil {
		o.Stderr = io.Discard
	}
	return o
}

// A suite runs cases and collects their results.
type suite struct {
	ctx              context.Context
	out              io.Writer
	network, address string
	opt              Options
	passed, failed   int
	skipped          int
}

// A failure ends a case. It travels as a panic, as in a test, so that the steps of a case read as a list.
type failure struct{ text string }

// A skip ends a case that cannot be checked.
type skip struct{ why string }

func failf(format string, args ...any) { panic(failure{fmt.Sprintf(format, args...)}) }

func skipf(format string, args ...any) { panic(skip{fmt.Sprintf(format, args...)}) }

// row runs a case and prints its row of the table.
func (s *suite) row(group, name string, run func()) {
	if s.ctx.Err() != nil {
		return
	}
	if s.opt.Verbose {
		fmt.Fprintf(s.out, "%-8s %-62s ...\n", group, name)
	}
	verdict, why := s.judge(run)
	fmt.Fprintf(s.out, "%-8s %-62s %s\n", group, name, verdict)
	if why != "" {
		fmt.Fprintf(s.out, "         %s\n", why)
	}
}

func (s *suite) judge(run func()) (verdict, why string) {
	defer func() {
		switch reason := recover().(type) {
		case nil:
		case failure:
			s.failed++
			verdict, why = "FAIL", reason.text
		case skip:
			s.skipped++
			verdict, why = "skipped", reason.why
		default:
			panic(reason)
		}
	}()
	run()
	s.passed++
	return "ok", ""
}

// result prints the last line of the table.
func (s *suite) result() error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "\n%d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
	if s.failed > 0 || s.passed == 0 {
		return ErrFailed
	}
	return nil
}
