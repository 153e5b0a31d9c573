// SPDX-License-Identifier: Apache-2.0

package duplex

// This file is the form of a message: its type, then its data.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
)

// A Message is a type, whose meaning the two programs define, and bytes.
type Message struct {
	Type uint32
	Data []byte
}

// ErrInvalidMessage is reported when a peer sends a frame that does not begin with a type. A Handler
// may return it for a message that no Client of its protocol sends. The connection is closed.
var ErrInvalidMessage = errors.New("udsipc/duplex: invalid message")

// appendTo appends the encoded message to dst.
func (m Message) appendTo(dst []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(m.Type)), m.Data...)
}

// parse decodes a frame. The data of the message is part of b.
func parse(b []byte) (Message, error) {
	kind, size := binary.Uvarint(b)
	if size <= 0 || kind > math.MaxUint32 {
		return Message{}, fmt.Errorf("%w: it begins with % x", ErrInvalidMessage, b[:min(len(b), binary.MaxVarintLen32+1)])
	}
	return Message{Type: uint32(kind), Data: b[size:len(b):len(b)]}, nil
}

// maxKept is the largest capacity of a pooled buffer, in bytes.
const maxKept = 64 << 10

// bodies are pooled buffers for encoded messages.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

// send encodes m and passes it to write.
func (m Message) send(write func(body []byte) error) error {
	body := bodies.Get().(*[]byte)
	*body = m.appendTo((*body)[:0])
	err := write(*body)
	if cap(*body) <= maxKept {
		bodies.Put(body)
	}
	return err
}
