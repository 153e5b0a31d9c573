// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"encoding/binary"
	"sync"
)

// maxKept is the largest capacity of a pooled slice, in bytes.
const maxKept = 128 << 10

var pool = sync.Pool{New: func() any { return new([]byte) }}

// getBytes returns a pooled copy of data.
func getBytes(data []byte) *[]byte {
	b := pool.Get().(*[]byte)
	*b = append((*b)[:0], data...)
	return b
}

// putBytes returns b to the pool. The caller must not use it afterwards.
func putBytes(b *[]byte) {
	if cap(*b) <= maxKept {
		pool.Put(b)
	}
}

// sendWith sends a message of a kind; fill appends its fields.
func sendWith(send func(body []byte) error, kind uint32, fill func([]byte) []byte) error {
	b := pool.Get().(*[]byte)
	*b = fill(appendType((*b)[:0], kind))
	err := send(*b)
	putBytes(b)
	return err
}

// appendType appends the type of a message of package duplex.
func appendType(b []byte, kind uint32) []byte { return binary.AppendUvarint(b, uint64(kind)) }

func appendID(b []byte, id uint64) []byte { return binary.AppendUvarint(b, id) }
