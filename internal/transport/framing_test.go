// SPDX-License-Identifier: Apache-2.0

package transport_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// vectorEnds are the ends of a vector.
var vectorEnds = map[string]error{
	"whole":      nil,
	"incomplete": io.ErrUnexpectedEOF,
	"prefix":     udsipc.ErrInvalidLengthPrefix,
	"size":       udsipc.ErrMessageTooLarge,
}

// referenceDecode is the protocol as plainly as it can be written.
func referenceDecode(limit uint64, b []byte) (messages [][]byte, err error) {
	for len(b) > 0 {
		length, size, end := referenceHeader(b)
		if end != nil {
			if err == nil {
				err = end
			}
			return messages, err
		}
		b = b[size:]
		refused := length > limit
		if refused && err == nil {
			err = udsipc.ErrMessageTooLarge
		}
		if uint64(len(b)) < length {
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
			return messages, err
		}
		if !refused {
			messages = append(messages, b[:length])
		}
		b = b[length:]
	}
	return messages, err
}

func referenceHeader(b []byte) (length uint64, size int, err error) {
	for i, c := range b {
		switch {
		case i == 10, i == 9 && c < 0x80 && c > 1:
			return 0, 0, udsipc.ErrInvalidLengthPrefix
		}
		length |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return length, i + 1, nil
		}
	}
	return 0, 0, io.ErrUnexpectedEOF
}

// split cuts b into pieces of the sizes, over and over.
func split(b []byte, sizes ...int) [][]byte {
	var pieces [][]byte
	for i := 0; len(b) > 0; i++ {
		n := len(b)
		if len(sizes) > 0 {
			n = min(n, max(1, sizes[i%len(sizes)]))
		}
		pieces = append(pieces, b[:n])
		b = b[n:]
	}
	return pieces
}

// decode does what a Reader's connection does (stream.serve) with what comes from conn, which stays open. The error is
// the first one, io.ErrUnexpectedEOF at the end of the stream in the middle of a message.
func decode(limit uint64, bufSize uint32, conn net.Conn) (messages [][]byte, err error) {
	in := transport.NewIn(conn, transport.Limits{MaxMessageSize: limit, ReadSize: int(bufSize)},
		&testMemory{Left: 1 << 30})
	defer in.ReleaseBuffer()
	for {
		refused := in.Deliver(func(data []byte) {
			messages = append(messages, bytes.Clone(data))
			if cap(data) != len(data) {
				err = errors.Join(err, errors.New("appending to a message would touch the next one"))
			}
		})
		err = errdefs.First(err, refused)
		if refused != nil && !errors.Is(refused, udsipc.ErrMessageTooLarge) {
			return messages, err
		}
		if refused != nil {
			in.RequestClose(wire.CloseOrderly)
			continue
		}
		if ended := in.Fill(); ended != nil {
			if ended == io.EOF && in.PartialBytes() > 0 {
				ended = io.ErrUnexpectedEOF
			}
			if ended != io.EOF {
				err = errdefs.First(err, ended)
			}
			return messages, err
		}
	}
}

func checkDecode(tb testing.TB, limit uint64, bufSize uint32, pieces [][]byte, want [][]byte, wantErr error) {
	tb.Helper()
	got, err := decode(limit, bufSize, &pieceConn{pieces: pieces})
	if wantErr == nil && err != nil || !errors.Is(err, wantErr) {
		tb.Errorf("got error %v, want %v", err, wantErr)
	}
	if !slices.EqualFunc(got, want, bytes.Equal) {
		tb.Errorf("got %d messages %.60q, want %d %.60q", len(got), got, len(want), want)
	}
}

func TestFrames_Vectors_DecodeAsDocumented(t *testing.T) {
	for _, v := range ipctest.FrameVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			b := ipctest.Expand(t, v.Bytes)
			var want [][]byte
			for _, message := range v.Messages {
				want = append(want, ipctest.Expand(t, message))
			}
			wantErr, known := vectorEnds[v.End]
			if !known {
				t.Fatalf("no end %q", v.End)
			}
			if got, err := referenceDecode(v.Limit, b); err != wantErr || !slices.EqualFunc(got, want, bytes.Equal) {
				t.Errorf("the reference has %d messages, %v", len(got), err)
			}
			for _, size := range []int{1, 2, 3, 511, 512, 513, 1 << 20} {
				checkDecode(t, v.Limit, 4096, split(b, size), want, wantErr)
			}
		})
	}
}

// TestFrames_SplitAnywhere_DecodeTheSame cuts a stream of many kinds of frames at every two places.
func TestFrames_SplitAnywhere_DecodeTheSame(t *testing.T) {
	t.Parallel()
	stream := ipctest.Frames("", "a", strings.Repeat("b", 127), "", strings.Repeat("c", 128), "d")
	stream = append(stream, 0x83, 0x80, 0x00, 'x', 'y', 'z')                     // Not minimal.
	stream = append(stream, ipctest.Frames(strings.Repeat("too large ", 20))...) // Over the limit.
	stream = append(stream, ipctest.Frames("behind it", "", "end")...)
	const limit = 150
	want, wantErr := referenceDecode(limit, stream)
	for first := range stream {
		for second := first; second <= len(stream); second += 1 + len(stream)/100 {
			pieces := [][]byte{stream[:first], stream[first:second], stream[second:]}
			checkDecode(t, limit, 512, pieces, want, wantErr)
		}
		if t.Failed() {
			t.Fatalf("cut at %d", first)
		}
	}
}

// TestFrames_SizesAroundReadBuffer_DecodeTheSame sends frames around every size that the buffers have, in pieces
// around the same.
func TestFrames_SizesAroundReadBuffer_DecodeTheSame(t *testing.T) {
	sizes := []int{
		0, 1, 507, 509, 510, 511, 512, 513, 1021, 1022, 1024, 1025, 2045, 2046, 2047, 2048, 2049,
		4093, 4096, 4097, 70_000,
	}
	content := bytes.Repeat([]byte("0123456789abcdef!"), 5000)
	for _, first := range sizes {
		for _, second := range sizes {
			stream := wire.AppendFrame(nil, content[:first])
			stream = wire.AppendFrame(stream, content[first:][:min(second, len(content)-first)])
			stream = wire.AppendFrame(stream, []byte("end"))
			want, wantErr := referenceDecode(1<<20, stream)
			for _, pieces := range [][]int{{1 << 20}, {511}, {512}, {513}, {2048, 1}, {1, 2047, 3}} {
				checkDecode(t, 1<<20, 2048, split(stream, pieces...), want, wantErr)
			}
		}
	}
}

// TestFrames_SplitOverSockets_DecodeTheSame has each piece read before the next is written: a socket is read in another
// way than what is in memory, and waits without a buffer in between.
func TestFrames_SplitOverSockets_DecodeTheSame(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long")
	}
	check := func(tb testing.TB, stream []byte, sizes ...int) {
		tb.Helper()
		client, server := ipctest.SocketPair(tb)
		sent := make(chan error, 1)
		go func() { sent <- sendPieces(client, split(stream, sizes...)) }() // Ends with the stream.
		got, err := decode(1<<20, 2048, server)
		server.Close() // So that a sender of more than that ends, too.
		if sendErr := ipctest.Await(tb, "the end of sending", sent); sendErr != nil && err == nil {
			tb.Error(sendErr)
		}
		want, wantErr := referenceDecode(1<<20, stream)
		if wantErr == nil && err != nil || !errors.Is(err, wantErr) {
			tb.Errorf("pieces of %v: got error %v, want %v", sizes, err, wantErr)
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			tb.Errorf("pieces of %v: got %d messages %.60q, want %d %.60q", sizes, len(got), got, len(want), want)
		}
	}
	for _, v := range ipctest.FrameVectors(t) {
		if v.End == "size" {
			continue // The kernel refuses what is written after that.
		}
		t.Run(v.Name, func(t *testing.T) {
			for _, size := range []int{1, 2, 511, 512, 513, 1 << 20} {
				if b := ipctest.Expand(t, v.Bytes); len(b)/size < 1000 {
					check(t, b, size)
				}
			}
		})
	}
	content := bytes.Repeat([]byte("0123456789abcdef!"), 5000)
	for _, first := range []int{0, 1, 510, 512, 2045, 2046, 2047, 2048, 4097, 70_000} {
		for _, second := range []int{0, 509, 511, 2046, 2048, 2049, 10_000} {
			stream := wire.AppendFrame(nil, content[:first])
			stream = wire.AppendFrame(stream, content[first:][:second])
			stream = wire.AppendFrame(stream, []byte("end"))
			for _, sizes := range [][]int{{1 << 20}, {512}, {2048, 1}, {1, 2047, 3}, {5000}} {
				check(t, stream, sizes...)
			}
			if t.Failed() {
				t.Fatalf("frames of %d and %d", first, second)
			}
		}
	}
}

// sendPieces writes each piece once the one before it was read, and ends the stream.
func sendPieces(conn *net.UnixConn, pieces [][]byte) error {
	for _, piece := range pieces {
		if _, err := conn.Write(piece); err != nil {
			return err
		}
		for !transport.HasRead(conn) {
			runtime.Gosched()
		}
	}
	return conn.CloseWrite()
}

// FuzzDecode cuts any bytes into any pieces: what comes out is what the reference says.
func FuzzDecode(f *testing.F) {
	// Each vector, whole and byte by byte, with its own limit.
	for _, v := range ipctest.FrameVectors(f) {
		f.Add(ipctest.Expand(f, v.Bytes), []byte{}, uint32(v.Limit), uint8(0))
		f.Add(ipctest.Expand(f, v.Bytes), []byte{0}, uint32(v.Limit), uint8(3))
	}
	// A frame larger than the read buffer, then small ones, in pieces of changing sizes.
	f.Add(ipctest.Frames(strings.Repeat("x", 2000), "", "y"), []byte{200, 0, 90, 3}, uint32(4000), uint8(0))
	// Many small frames in one piece, with one over the limit among them, and one cut at the end.
	f.Add(append(ipctest.Frames("a", "bb", "ccc", "dd", "e"), 7, 'f'), []byte{255}, uint32(2), uint8(1))
	// A limit that lies between a prefix of one byte and one of two.
	f.Add(ipctest.Frames(strings.Repeat("p", 127), strings.Repeat("q", 128)), []byte{20, 1}, uint32(127), uint8(2))
	f.Fuzz(func(t *testing.T, b, cuts []byte, limit uint32, class uint8) {
		sizes := make([]int, len(cuts))
		for i, cut := range cuts {
			sizes[i] = 1 + int(cut)*int(cut)/16 // 1 to 4065.
		}
		limit = min(limit, 1<<30)
		want, wantErr := referenceDecode(uint64(limit), b)
		checkDecode(t, uint64(limit), 512<<(class%8), split(b, sizes...), want, wantErr)
	})
}
