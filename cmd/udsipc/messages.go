// SPDX-License-Identifier: Apache-2.0

package main

// This file divides an input into messages: lines, frames, or a file as one message.

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// What is done with a line over the limit (--long-lines).
const (
	longLinesError = "error"
	longLinesSplit = "split"
	longLinesSkip  = "skip"
)

// A divider yields the messages of an input. What it returns is valid until the next call.
type divider struct {
	in          *bufio.Reader
	limit       uint64      // Of a message, in bytes.
	long        string      // Of longLines….
	end         byte        // Of a line.
	interrupted func() bool // Reports whether the end of the input was an interrupt: it may be anywhere.

	number  uint64 // Of the line or frame that was read last, from 1.
	skipped uint64 // Lines over the limit that were left out.
	message []byte // A message that is not whole in the buffer of in.
	split   bool   // The last message was not the end of its line.
}

// maxKeptMessage is the largest memory that is kept for the next message.
const maxKeptMessage = 1 << 20

func newDivider(in io.Reader, limit uint64) *divider {
	return &divider{
		in: bufio.NewReaderSize(in, inputChunk), limit: limit, long: longLinesError, end: '\n',
		interrupted: func() bool { return false },
	}
}

// An unfinishedError is the end of an input within a message.
type unfinishedError struct {
	kind  string // "line" or "frame".
	bytes int
}

func (e *unfinishedError) Error() string {
	return fmt.Sprintf("the input ended within a %s; its first %s were not sent", e.kind,
		plural(uint64(e.bytes), "byte"))
}

// line returns the next line without its end; io.EOF is the end of the input. The last line may be without an end.
func (d *divider) line() ([]byte, error) {
	d.begin()
	for {
		if _, err := d.in.Peek(1); err != nil {
			return d.lastLine(err)
		}
		buffered, _ := d.in.Peek(d.in.Buffered())
		space := d.limit - uint64(len(d.message))
		length := bytes.IndexByte(buffered, d.end)
		switch {
		case length >= 0 && uint64(length) <= space:
			d.split = false
			return d.take(buffered[:length], 1), nil
		case uint64(len(buffered)) <= space:
			d.message = append(d.message, buffered...)
			_, _ = d.in.Discard(len(buffered))
		case d.long == longLinesSplit:
			d.split = true
			return d.take(buffered[:space], 0), nil
		case d.long == longLinesSkip:
			d.skipped++
			if err := d.skipLine(); err != nil {
				return nil, err
			}
			d.begin()
		default:
			return nil, fmt.Errorf("line %d is longer than %s (--long-lines, --max-message-size)", d.number,
				formatSize(d.limit))
		}
	}
}

// begin prepares for the next message.
func (d *divider) begin() {
	if cap(d.message) > maxKeptMessage {
		d.message = nil
	}
	d.message = d.message[:0]
	if !d.split {
		d.number++
	}
}

// take returns what was gathered with what is buffered behind it, and discards that and some bytes more.
func (d *divider) take(buffered []byte, more int) []byte {
	_, _ = d.in.Discard(len(buffered) + more) // They stay where they are until the next read.
	if len(d.message) == 0 {
		return buffered
	}
	d.message = append(d.message, buffered...)
	return d.message
}

func (d *divider) skipLine() error {
	for {
		_, err := d.in.ReadSlice(d.end)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// lastLine returns what stands behind the last end of a line.
func (d *divider) lastLine(err error) ([]byte, error) {
	switch {
	case err != io.EOF || len(d.message) == 0:
		return nil, err
	case d.interrupted():
		return nil, &unfinishedError{"line", len(d.message)}
	}
	d.split = false
	return d.message, nil
}

// frame returns the message of the next frame; io.EOF is the end of the input, between frames.
func (d *divider) frame() ([]byte, error) {
	d.begin()
	length, err := binary.ReadUvarint(d.in)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, &unfinishedError{"frame", 1}
	case err == io.EOF:
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("frame %d: its length is over 64 bits; is the input lines?", d.number)
	case length > d.limit:
		return nil, fmt.Errorf("frame %d has %d bytes, which is over %s (--max-message-size); is the input lines?",
			d.number, length, formatSize(d.limit))
	}
	if length <= uint64(d.in.Size()) {
		buffered, err := d.in.Peek(int(length))
		if err != nil {
			return nil, unfinished(err, len(buffered))
		}
		return d.take(buffered, 0), nil
	}
	// The memory grows with what comes, not by what the length says.
	gathered, err := io.CopyN((*appender)(&d.message), d.in, int64(length))
	if err != nil {
		return nil, unfinished(err, int(gathered))
	}
	return d.message, nil
}

// unfinished returns the error of an input that ended within a frame.
func unfinished(err error, bytes int) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return &unfinishedError{"frame", bytes}
	}
	return err
}

// An appender is a slice as a writer.
type appender []byte

func (a *appender) Write(b []byte) (int, error) {
	*a = append(*a, b...)
	return len(b), nil
}

// whole returns the rest of the input as one message, and then io.EOF.
func (d *divider) whole() ([]byte, error) {
	if d.begin(); d.number > 1 {
		return nil, io.EOF
	}
	_, err := io.CopyN((*appender)(&d.message), d.in, int64(d.limit)+1)
	switch {
	case err == nil:
		return nil, fmt.Errorf("the file is longer than %s (--max-message-size)", formatSize(d.limit))
	case err != io.EOF:
		return nil, err
	case d.interrupted():
		return nil, &unfinishedError{"file", len(d.message)}
	}
	return d.message, nil
}
