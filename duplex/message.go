// SPDX-License-Identifier: Apache-2.0

// Package duplex exchanges typed messages, in both directions, between one [Server] and many [Client]s.
//
//	server, err := duplex.NewServer("/run/app.sock", func(ctx context.Context, s *duplex.ServerConn, m duplex.Message) error {
//		return s.Send(duplex.Message{Type: m.Type, Data: m.Data})
//	})
//	client, err := duplex.NewClient("/run/app.sock")
//
// Addresses and options are those of package udsipc: what is about listening, limits and trust for a Server, what is
// about connecting for a Client, and for both the bounds of what waits to be sent. Nobody waits for a slow peer: its queue
// is bounded, and udsipc.WithOverflow says what happens when it is full (ErrBufferFull by default).
//
// A Client connects by itself, again and again; what is sent while it is away waits. Messages of one connection arrive in
// order. What was with the kernel when a connection broke may not have been read; a server that stops reads it (on a Unix
// socket on Linux), and one that is killed does not. Package rpc tells for each call.
//
// On the wire each message is a frame of package udsipc that holds the type, as an unsigned varint, and the data.
package duplex

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
)

// A Message is a type, which means what the two programs agree on, and bytes.
type Message struct {
	Type uint32
	Data []byte
}

// ErrInvalidMessage is reported when a peer sends a frame that does not begin with a type. Its connection is ended.
var ErrInvalidMessage = errors.New("udsipc/duplex: invalid message")

// appendTo appends the message to dst as it goes over the wire.
func (m Message) appendTo(dst []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(m.Type)), m.Data...)
}

// parse reads the body of a frame. The data is part of b.
func parse(b []byte) (Message, error) {
	kind, size := binary.Uvarint(b)
	if size <= 0 || kind > math.MaxUint32 {
		return Message{}, fmt.Errorf("%w: it begins with % x", ErrInvalidMessage, b[:min(len(b), binary.MaxVarintLen32+1)])
	}
	return Message{Type: uint32(kind), Data: b[size:len(b):len(b)]}, nil
}

// maxKept bounds the bodies that are kept for the next message.
const maxKept = 64 << 10

// bodies are pooled, because a message is framed from one slice.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

// send has write send m.
func (m Message) send(write func(body []byte) error) error {
	body := bodies.Get().(*[]byte)
	*body = m.appendTo((*body)[:0])
	err := write(*body)
	if cap(*body) <= maxKept {
		bodies.Put(body)
	}
	return err
}
