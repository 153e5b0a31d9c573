// SPDX-License-Identifier: Apache-2.0

package main

// The begin of each message tells the receiver what it is for: a kind, then 8 bytes that depend on
// it.

import "encoding/binary"

// The kinds of messages.
const (
	plain byte = iota // Is counted.
	timed             // Is counted; its time is in the message.
	begin             // The measurement begins behind it.
	end               // The measurement ends with it; the number of messages is in the message.
)

func newMessage(size int, kind byte) []byte {
	data := make([]byte, size)
	data[0] = kind
	return data
}

func setNumber(data []byte, number uint64) { binary.LittleEndian.PutUint64(data[1:], number) }

func number(data []byte) uint64 { return binary.LittleEndian.Uint64(data[1:]) }
