// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is a Writer as an io.Writer, for loggers and for io.Copy: each line is a message.

import (
	"bytes"
	"sync"
)

// maxKeptLine is the largest capacity that a LineWriter keeps for the next unfinished line, in bytes.
const maxKeptLine = 64 << 10

// A LineWriter is an io.Writer that sends each line as a message, without its newline. Writer.Lines
// returns one. log, log/slog, zap and zerolog write an entry with one call of Write, and a newline at
// its end: each entry is a message, or several if it has newlines within.
//
// Write may be called concurrently if each call writes whole lines. Parts of lines from several
// sources need a LineWriter each. With OverflowBlock, no callback of the Writer may write to one
// (ErrorCallback).
type LineWriter struct {
	send  func(message []byte) error // WriteMessage of the Writer.
	limit uint64                     // The largest message that it takes.

	mu         sync.Mutex // Guards unfinished.
	unfinished []byte     // The line whose newline has not come; at most a byte over the limit.
}

// Lines returns a new LineWriter that sends with w.
func (w *Writer) Lines() *LineWriter { return newLineWriter(w.WriteMessage, w.cfg.maxMessageSize) }

func newLineWriter(send func(message []byte) error, limit uint64) *LineWriter {
	return &LineWriter{send: send, limit: limit}
}

// Write sends the lines of p, as WriteMessage does: it never waits, unless WithOverflow is
// OverflowBlock. The caller may reuse p. How a text is divided among calls makes no difference: the
// part after the last newline is kept, and sent when its newline comes, or by Close. An empty line is
// an empty message. Of a line over WithMaxMessageSize, no more than that is kept.
//
// Write always takes all of p. A line that WriteMessage refuses is dropped as a whole, and counted in
// WriterMetrics (Refused, TooLarge). The error is that of the first such line: do not write p again.
// io.Copy ends at an error, so it needs OverflowBlock to carry more than the queue holds.
func (l *LineWriter) Write(p []byte) (n int, err error) {
	n = len(p)
	end := bytes.IndexByte(p, '\n')
	if end < 0 {
		l.keep(p)
		return n, nil
	}
	if line := l.take(); len(line) > 0 {
		line = l.appendPart(line, p[:end])
		err = l.send(line)
		l.reuse(line)
	} else {
		err = l.send(p[:end])
	}
	for p = p[end+1:]; ; p = p[end+1:] {
		if end = bytes.IndexByte(p, '\n'); end < 0 {
			break
		}
		if failed := l.send(p[:end]); err == nil {
			err = failed
		}
	}
	if len(p) > 0 {
		l.keep(p)
	}
	return n, err
}

// Close sends the line whose newline has not come, if there is one. It stops neither the Writer nor
// the LineWriter, and may be called again.
func (l *LineWriter) Close() error {
	line := l.take()
	if len(line) == 0 {
		return nil
	}
	return l.send(line)
}

// appendPart appends part to line, up to one byte over the limit: enough to be refused.
func (l *LineWriter) appendPart(line, part []byte) []byte {
	room := l.limit + 1 - uint64(len(line))
	return append(line, part[:min(uint64(len(part)), room)]...)
}

// keep appends part to the unfinished line.
func (l *LineWriter) keep(part []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unfinished = l.appendPart(l.unfinished, part)
}

// take removes the unfinished line. It belongs to the caller: nothing is sent with mu held, because
// WriteMessage may wait (OverflowBlock), or write.
func (l *LineWriter) take() (line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if line = l.unfinished; len(line) > 0 {
		l.unfinished = nil
	}
	return line
}

// reuse returns the memory of a line that was sent.
func (l *LineWriter) reuse(line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unfinished == nil && cap(line) <= maxKeptLine {
		l.unfinished = line[:0]
	}
}
