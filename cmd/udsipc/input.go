// SPDX-License-Identifier: Apache-2.0

package main

// This file reads what send sends, and ends at an interrupt although a read waits.

import (
	"context"
	"io"
	"time"
)

const (
	inputChunk = 64 << 10
	// After an interrupt, what the input brings at once is sent too: the interrupt of a pipeline has ended the
	// program before it, and what that one wrote last is in the pipe.
	inputSilence = 100 * time.Millisecond
	inputRest    = 1 << 20 // Bytes; the largest pipe of Linux (fcntl(2), F_SETPIPE_SZ) for most users.
)

// An input is a reader that ends, as at the end of the file, after ctx has ended.
type input struct {
	ctx    context.Context
	chunks chan inputPart
	free   chan []byte
	done   chan struct{} // Closed by close.

	part  inputPart // What is not read of the last one.
	used  []byte    // Its memory.
	left  int       // Bytes to take after the interrupt.
	ended bool      // An interrupt has ended it.
	cut   bool      // It never paused after that: there was more.
}

type inputPart struct {
	data []byte
	err  error
}

// newInput begins to read. At most two chunks are read ahead. Its goroutine ends with close; one that waits in a read
// ends when that returns.
func newInput(ctx context.Context, from io.Reader) *input {
	in := &input{ctx: ctx, chunks: make(chan inputPart), free: make(chan []byte, 2), left: inputRest}
	in.done = make(chan struct{})
	in.free <- make([]byte, inputChunk)
	in.free <- make([]byte, inputChunk)
	go in.readAll(from)
	return in
}

func (in *input) readAll(from io.Reader) {
	for {
		var part inputPart
		select {
		case memory := <-in.free:
			n, err := from.Read(memory[:inputChunk])
			part = inputPart{memory[:n], err}
		case <-in.done:
			return
		}
		select {
		case in.chunks <- part:
		case <-in.done:
			return
		}
		if part.err != nil {
			return
		}
	}
}

func (in *input) close() { close(in.done) }

// Read implements io.Reader.
func (in *input) Read(b []byte) (int, error) {
	for len(in.part.data) == 0 {
		if in.part.err != nil {
			return 0, in.part.err
		}
		if in.used != nil {
			in.free <- in.used
			in.used = nil
		}
		if !in.await() {
			return 0, io.EOF
		}
		in.used = in.part.data
	}
	n := copy(b, in.part.data)
	in.part.data = in.part.data[n:]
	return n, nil
}

// await gets the next part. It returns false if there is none soon after the interrupt, or too much.
func (in *input) await() bool {
	if in.ctx.Err() == nil {
		select {
		case in.part = <-in.chunks:
			return true
		case <-in.ctx.Done():
		}
	}
	if in.left <= 0 {
		in.ended, in.cut = true, true
		return false
	}
	silence := time.NewTimer(inputSilence)
	defer silence.Stop()
	select {
	case in.part = <-in.chunks:
		in.left -= len(in.part.data)
		return true
	case <-silence.C:
		in.ended = true
		return false
	}
}
