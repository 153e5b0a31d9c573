// SPDX-License-Identifier: Apache-2.0

package main

// This file redraws the table on a terminal and obeys keys. Whatever ends the command, the terminal is as it was.

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/udsipc/udsipc/internal/terminal"
)

// Control sequences (console_codes(4)).
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // The other screen, without a cursor.
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	cursorHome  = "\x1b[H"
	clearRest   = "\x1b[K" // Of the line.
	clearBelow  = "\x1b[J"
	reverseOn   = "\x1b[7m"
	reverseOff  = "\x1b[0m"
)

// A screen is the terminal while the command has it.
type screen struct {
	out     *os.File
	in      *os.File // nil: there are no keys.
	restore func()
}

// enter takes the terminal.
func (s *screen) enter() error {
	s.restore = func() {}
	if s.in != nil {
		if restore, err := terminal.ReadKeys(s.in); err == nil { // Otherwise Enter has to follow each key.
			s.restore = restore
		}
	}
	_, err := io.WriteString(s.out, enterScreen)
	return err
}

// leave gives the terminal back.
func (s *screen) leave() {
	_, _ = io.WriteString(s.out, leaveScreen) // Maybe there is no terminal any more.
	s.restore()
}

// onTerminal redraws the table until q or a signal.
func (t *top) onTerminal(ctx context.Context, e *env) int {
	s := &screen{out: e.stdout.(*os.File)}
	if in, ok := e.stdin.(*os.File); ok && e.isTerminal(in) {
		s.in = in
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	signals := make(chan os.Signal, 4)
	notifyTerminal(signals)
	defer signal.Stop(signals)
	keys := make(chan byte)
	if s.in != nil {
		go readKeys(ctx, s.in, keys) // Ends with the terminal, or with the process.
	}
	if err := s.enter(); err != nil {
		return e.failOutput(err)
	}
	defer s.leave()
	if err := t.redraw(ctx, s, keys, signals); err != nil {
		return e.failOutput(err)
	}
	return exitOK
}

// readKeys reads keys until the terminal ends.
func readKeys(ctx context.Context, in *os.File, keys chan<- byte) {
	buf := make([]byte, 16)
	for {
		n, err := in.Read(buf)
		for _, key := range buf[:n] {
			select {
			case keys <- key:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// redraw is the loop: it samples at each tick, and draws after each sample and each key.
func (t *top) redraw(ctx context.Context, s *screen, keys <-chan byte, signals <-chan os.Signal) error {
	ticker := time.NewTicker(t.interval)
	defer ticker.Stop()
	taken := t.sampler.sample(ctx, t.patience())
	for {
		if ctx.Err() != nil {
			return nil
		}
		if err := t.draw(s.out, taken); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			taken = t.sampler.sample(ctx, t.patience())
		case key := <-keys:
			if key == ' ' {
				taken = t.sampler.sample(ctx, t.patience())
			}
			if t.press(key) {
				return nil
			}
		case sig := <-signals:
			switch {
			case isHangup(sig):
				return nil
			case isPause(sig):
				s.leave()
				pauseProcess()
				if err := s.enter(); err != nil {
					return err
				}
			}
		}
	}
}

// press obeys a key. It returns whether that is the end.
func (t *top) press(key byte) (end bool) {
	switch key {
	case 'q', 'Q', 3, 4: // Also ^C and ^D of a terminal that makes no signals.
		return true
	case 'h', '?':
		t.help = !t.help
	case 'w':
		t.who = !t.who
	case 'r':
		t.reverse = !t.reverse
	}
	for _, c := range topColumns {
		if c.key != 0 && c.key == key {
			t.sort, t.reverse = c.name, false
		}
	}
	return false
}

// draw writes the table over the one before, in one write.
func (t *top) draw(out *os.File, s *sample) error {
	columns, rows, err := terminal.Size(out)
	if err != nil {
		columns, rows = 80, 24
	}
	t.sortRows(s.rows)
	lines := t.lines(s, columns)
	if len(s.rows) == 0 {
		text := "Nobody publishes metrics in " + s.where() + " (option WithPublishedMetrics)."
		lines = append(append(lines, ""), wrap(text, columns)...)
	}
	if t.help {
		text := "Keys: q end, h keys, w peers, r reverse, space now; sort by " + sortKeys() + "."
		lines = append(append(lines, ""), wrap(text, columns)...)
	}
	var b strings.Builder
	b.WriteString(cursorHome)
	for i, line := range lines {
		if i == rows-1 && i < len(lines)-1 {
			line = fmt.Sprintf("and %d more lines", len(lines)-i)
		}
		if runes := []rune(line); len(runes) > columns {
			line = string(runes[:columns])
		}
		if i == 1+len(s.notes) {
			line = reverseOn + line + strings.Repeat(" ", max(0, columns-len([]rune(line)))) + reverseOff
		}
		b.WriteString(line + clearRest)
		if i == rows-1 {
			break
		}
		b.WriteString("\r\n")
	}
	b.WriteString(clearBelow)
	_, err = io.WriteString(out, b.String())
	return err
}

// sortKeys returns the keys that sort, with their columns.
func sortKeys() string {
	var list []string
	for _, c := range topColumns {
		if c.key != 0 {
			list = append(list, string(c.key)+" "+c.name)
		}
	}
	return strings.Join(list, ", ")
}
