// SPDX-License-Identifier: Apache-2.0

package main

// This file is the standard error as a command uses it while it runs: a line of progress that is redrawn, and the
// lines of the library's log between.

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/udsipc/udsipc/internal/terminal"
)

const (
	redrawInterval = 200 * time.Millisecond // Of a line on a terminal.
	lineInterval   = 5 * time.Second        // Of lines elsewhere.
	clearLine      = "\r\x1b[K"
)

// A console writes lines and a line of progress.
type console struct {
	name   string
	redraw bool // A terminal.

	mu    sync.Mutex // Guards the writer and shown.
	out   io.Writer
	shown bool // The line of progress stands there.
}

func (e *env) console() *console {
	return &console{name: e.name, out: e.stderr, redraw: e.isTerminal(e.stderr)}
}

// logf writes a line, with the name of the command before it.
func (c *console) logf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.eraseLocked()
	fmt.Fprintf(c.out, "udsipc %s: %s\n", c.name, visibleText(fmt.Sprintf(format, args...)))
}

// progress shows a text in place of the one before, or as a line if this is no terminal.
func (c *console) progress(text string) {
	if !c.redraw {
		c.logf("%s", text)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprint(c.out, clearLine, c.fit(text))
	c.shown = true
}

// fit shortens a text to one line of the terminal: a longer one would scroll it with each redraw.
func (c *console) fit(text string) string {
	file, ok := c.out.(*os.File)
	if !ok {
		return text
	}
	columns, _, err := terminal.Size(file)
	if runes := []rune(text); err == nil && columns > 0 && len(runes) >= columns {
		return string(runes[:columns-1]) // The cursor needs the last one.
	}
	return text
}

// erase removes the line of progress.
func (c *console) erase() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.eraseLocked()
}

func (c *console) eraseLocked() {
	if c.shown {
		fmt.Fprint(c.out, clearLine)
		c.shown = false
	}
}

// interval returns how often progress is shown.
func (c *console) interval() time.Duration {
	if c.redraw {
		return redrawInterval
	}
	return lineInterval
}

// logger returns a logger for the library, which writes to the console.
func (c *console) logger() *slog.Logger { return slog.New(&logHandler{console: c}) }

// A logHandler writes records as lines: the message, then the attributes.
type logHandler struct {
	console *console
	before  string // Attributes of With.
}

func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	switch r.Message {
	case "udsipc: handler failed", "udsipc: stopped before everything was delivered":
		return nil // The command reports why, and what is lost.
	}
	text := strings.TrimPrefix(r.Message, "udsipc: ") + h.before
	r.Attrs(func(a slog.Attr) bool {
		text += formatAttr(a)
		return true
	})
	if r.Level == slog.LevelWarn {
		text = "warning: " + text
	}
	h.console.logf("%s", withFlags(h.console.name, text))
	return nil
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	for _, a := range attrs {
		next.before += formatAttr(a)
	}
	return &next
}

func (h *logHandler) WithGroup(string) slog.Handler { return h }

func formatAttr(a slog.Attr) string {
	value := a.Value.Resolve().String()
	if strings.ContainsAny(value, " \"=\n") || value == "" {
		return fmt.Sprintf(" %s=%q", a.Key, value)
	}
	return " " + a.Key + "=" + value
}
