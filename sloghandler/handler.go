// SPDX-License-Identifier: Apache-2.0

package sloghandler

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// A MessageWriter is a udsipc.Writer, or a spool.Writer, whose records survive the process.
type MessageWriter interface {
	// WriteMessage sends a copy of data.
	WriteMessage(data []byte) error
}

// A Handler is a slog.Handler that sends each record as a message, in the format of slog.JSONHandler
// or slog.TextHandler without the newline. NewJSON or NewText creates it. It is safe for concurrent
// use, and allocates no more than the handler of package slog.
//
// It never waits for the collector, unless the Writer has udsipc.OverflowBlock: then no callback of the
// Writer may log to it (udsipc.ErrorCallback). It may be the handler of slog.Default, to which the Writer
// itself logs that its collector is away.
type Handler struct {
	format  slog.Handler
	dropped *atomic.Uint64 // Of all Handlers with the same origin.
}

var _ slog.Handler = (*Handler)(nil)

// NewJSON returns a Handler that formats records as slog.NewJSONHandler does. opts may be nil.
func NewJSON(w MessageWriter, opts *slog.HandlerOptions) *Handler {
	dropped := new(atomic.Uint64)
	return &Handler{slog.NewJSONHandler(messages{w, dropped}, opts), dropped}
}

// NewText returns a Handler that formats records as slog.NewTextHandler does. opts may be nil.
func NewText(w MessageWriter, opts *slog.HandlerOptions) *Handler {
	dropped := new(atomic.Uint64)
	return &Handler{slog.NewTextHandler(messages{w, dropped}, opts), dropped}
}

// Dropped returns how many records the Writer has refused: because its queue was full, because they
// were over udsipc.WithMaxMessageSize, or because it was stopped. The Handlers that WithAttrs and
// WithGroup return count together with their origin. With udsipc.OverflowDropOldest, see
// udsipc.WriterMetrics.Dropped instead.
func (h *Handler) Dropped() uint64 { return h.dropped.Load() }

// Enabled reports whether records of a level are sent: those of slog.HandlerOptions.Level and above.
func (h *Handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.format.Enabled(ctx, level)
}

// Handle sends a record. The error is that of WriteMessage; slog.Logger ignores it.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error { return h.format.Handle(ctx, r) }

// WithAttrs returns a Handler whose records also have attrs.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Handler{h.format.WithAttrs(attrs), h.dropped}
}

// WithGroup returns a Handler that puts what follows into a group.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{h.format.WithGroup(name), h.dropped}
}

// messages makes a message of each Write. The handlers of package slog call Write once for each
// record, with a newline at the end (log/slog, commonHandler.handle).
type messages struct {
	writer  MessageWriter
	dropped *atomic.Uint64
}

func (m messages) Write(record []byte) (int, error) {
	if err := m.writer.WriteMessage(record[:len(record)-1]); err != nil {
		m.dropped.Add(1)
		return 0, err
	}
	return len(record), nil
}
