// SPDX-License-Identifier: Apache-2.0

package transport

// This file decodes messages in the read buffer, in place.

import (
	"slices"

	"github.com/udsipc/udsipc/internal/buffers"
	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/wire"
)

// tooLargeHead is the number of bytes of a message over the limit that a TooLarge includes.
const tooLargeHead = 32

// smallPrefix is the length of a prefix that deliverSmall decodes: messages of less than 16 KiB.
const smallPrefix = 2

// The smallest buffer has room for it. No constant of type uint64 is negative.
const _ = uint64(buffers.MinSize - tooLargeHead - wire.MaxPrefixSize)

// An oversize is the state of skipping messages over the limit.
type oversize struct {
	wantHead        bool   // The error includes the first bytes of the message.
	skipBytes       uint64 // Bytes of a frame that are still to be skipped.
	skippedFrames   uint64 // Frames that were skipped, or begun to be.
	skippedMessages uint64 // Frames of those that were skipped to their end.
}

// Deliver calls handle for every complete buffered message, in order and without a copy: data is
// valid until handle returns. The message counts as handed over before the call, so Deliver may be
// called again after a panic. The errors are those of Next.
func (in *In) Deliver(handle func(data []byte)) error {
	for {
		in.deliverSmall(handle)
		data, ok, err := in.Next()
		if !ok {
			return err
		}
		handle(data)
	}
}

// deliverSmall is Deliver for the messages at the front of the buffer whose prefixes have one or two
// bytes. It stops at the first one for which Next has anything else to decide.
func (in *In) deliverSmall(handle func(data []byte)) {
	input := &in.input
	limit := min(in.limit, uint64(input.readSize-smallPrefix)) // A larger frame sets largeFrameSize.
	for input.size() >= smallPrefix && in.oversize.skipBytes == 0 && !in.end.halted.Load() {
		b := input.buf.B[input.r:input.w]
		length, header := uint64(b[0]), 1
		if b[0] >= 0x80 {
			if b[1] >= 0x80 {
				return
			}
			length, header = uint64(b[0]&0x7f)|uint64(b[1])<<7, smallPrefix
		}
		end := header + int(length)
		if length == 0 || length > limit || end > len(b) {
			return
		}
		input.largeFrameSize = 0
		in.handOverMessage(end, int(length))
		handle(b[header:end:end])
	}
}

// handOverMessage accounts for the frame at r, of size bytes, before its message is handed over.
func (in *In) handOverMessage(size, length int) {
	in.input.r += size
	in.input.lastLength = length
	in.counts.received.Add(1)
}

// Next returns the next whole message that is buffered, without a copy: data is valid until
// something is read. It says no if there is none. A message over the limit is an error; calling
// again goes on behind it. ErrSessionPreface means that a session begins.
func (in *In) Next() (data []byte, ok bool, err error) {
	for in.input.r < in.input.w && !in.end.halted.Load() {
		if in.oversize.skipBytes > 0 {
			in.skipOversize()
			continue
		}
		b := in.input.buf.B[in.input.r:in.input.w]
		length, header, err := wire.ParsePrefix(b)
		switch {
		case err != nil && in.atStreamStart() && wire.HasPreface(b):
			return nil, false, ErrSessionPreface
		case err != nil:
			return nil, false, err
		case header == 0:
			in.input.wantBytes = 0
			return nil, false, nil
		case length == 0 && header > 1 && in.session != nil:
			in.input.r += header // A heartbeat.
			continue
		case length > in.limit && in.oversize.wantHead && len(b)-header < tooLargeHead && uint64(len(b)-header) < length:
			in.input.wantBytes = header + int(min(length, tooLargeHead))
			return nil, false, nil
		case length > in.limit && in.oversize.wantHead:
			in.input.wantBytes = 0
			head := b[header:min(len(b), header+tooLargeHead)]
			err := &errdefs.TooLarge{Size: length, Limit: in.limit, Head: slices.Clone(head[:min(uint64(len(head)), length)])}
			in.startSkip(header, length)
			return nil, false, err
		case length > in.limit:
			in.input.wantBytes = 0
			in.startSkip(header, length)
			return nil, false, errdefs.OverLimit(length, in.limit)
		}
		end := header + int(length)
		if end > len(b) {
			in.input.wantBytes = end
			return nil, false, nil
		}
		if in.input.largeFrameSize = 0; end > in.input.readSize && end <= buffers.MaxSize { // A larger buffer is not pooled.
			in.input.largeFrameSize = end
		}
		in.handOverMessage(end, int(length))
		return b[header:end:end], true, nil
	}
	in.input.wantBytes = 0
	return nil, false, nil
}

// skipOversize skips buffered bytes of a message over the limit.
func (in *In) skipOversize() {
	n := min(in.oversize.skipBytes, uint64(in.input.size()))
	in.input.r += int(n)
	if in.oversize.skipBytes -= n; in.oversize.skipBytes == 0 {
		in.oversize.skippedMessages++
	}
}

// startSkip has Next continue behind the frame at r.
func (in *In) startSkip(header int, length uint64) {
	in.oversize.skippedFrames++
	if in.oversize.skipBytes = uint64(header) + length; in.oversize.skipBytes < length {
		in.oversize.skipBytes = length // An overflow near 2^64, which no connection reaches.
	}
}

// atStreamStart reports whether all bytes of the stream so far are in the buffer.
func (in *In) atStreamStart() bool {
	return in.session == nil && !in.inherited && in.counts.received.Load() == 0 && in.oversize.skipBytes == 0 &&
		in.counts.receivedBytes.Load() == uint64(in.input.size())
}

// WholeMessages returns the number of complete messages in the buffer.
func (in *In) WholeMessages() (n uint64) {
	for rest := in.input.bytes(); in.oversize.skipBytes == 0; n++ {
		length, header, err := wire.ParsePrefix(rest)
		if err != nil || header == 0 || length > uint64(len(rest)-header) {
			return n
		}
		rest = rest[header+int(length):]
	}
	return n
}
