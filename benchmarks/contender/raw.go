// SPDX-License-Identifier: Apache-2.0

package contender

// The bare socket: both ends know the size of a message, and equal messages are sent 64 KiB at a
// time without a copy. Nothing in user space can be faster. Send writes a single message, which is
// the floor of latency.

import (
	"bytes"
	"io"
	"net"
)

func listenRaw(end End, receive func([]byte)) (io.Closer, error) {
	l, err := net.Listen("unix", end.socket())
	if err != nil {
		return nil, err
	}
	return serve(end, l, func(conn io.Reader) error { return readRaw(conn, end.Size, receive) })
}

func readRaw(conn io.Reader, size int, receive func([]byte)) error {
	buf := make([]byte, max(bufferSize, size))
	filled := 0 // buf[:filled] has the begin of a message.
	for {
		n, err := conn.Read(buf[filled:])
		if err != nil {
			return err
		}
		rest := buf[:filled+n]
		for ; len(rest) >= size; rest = rest[size:] {
			receive(rest[:size])
		}
		filled = copy(buf, rest)
	}
}

// A oneWrite gives each message to the kernel by itself.
type oneWrite struct{ conn net.Conn }

func (o oneWrite) Send(data []byte) error {
	_, err := o.conn.Write(data)
	return err
}

func (oneWrite) Flush() error   { return nil }
func (o oneWrite) Close() error { return o.conn.Close() }

type raw struct {
	oneWrite
	data  *byte  // The message that block has copies of.
	block []byte // Equal messages.
}

func dialRaw(end End) (Sender, error) {
	conn, err := net.Dial("unix", end.socket())
	return &raw{oneWrite: oneWrite{conn}}, err
}

// Repeat must get the same contents with the same slice.
func (r *raw) Repeat(data []byte, n int) error {
	if n == 1 {
		return r.Send(data)
	}
	if r.data != &data[0] || len(r.block) != n*len(data) {
		r.data, r.block = &data[0], bytes.Repeat(data, n)
	}
	return r.Send(r.block)
}
