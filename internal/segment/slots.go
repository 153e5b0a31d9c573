// SPDX-License-Identifier: Apache-2.0

package segment

// This file has the two hints of a spool, each a file of two slots.
//
//	state   slot = "udstate1" generation:u64 writer[16] next:u64 starts:u32 flags:u32 boot[16]
//	              confirmed:u32 0:u32 file:u64 0… crc32c:u32
//	handled slot = "udhandl1" generation:u64 writer[16] number:u64 0… crc32c:u32
//
// A slot has 512 bytes, the checksum the last four of them. The slots begin at 0 and 4096, so that no
// disk writes both at once. The one with the larger generation is the newer one.

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
)

const (
	// SlotsSize is the size in bytes of a file of slots.
	SlotsSize = 8192

	slotSize  = 512
	slotSpace = SlotsSize / 2
)

// A State is what the last process knew of itself.
type State struct {
	Writer  WriterID
	Next    uint64   // No message with this number or a larger one was accepted when the state was written.
	Starts  uint32   // The count of starts.
	Boot    [16]byte // The boot of the machine; zeros if the system does not tell.
	Orderly bool     // Whether the process has stopped and Next is exact.

	// Confirmed is a count of starts. No reader has been sent a message of a segment of a later start, unless
	// Confirmed is not less than Starts: then all segments are such that a reader may know.
	Confirmed uint32

	File uint64 // The inode number of the file that the state was written to. A copy of the file has another one.
}

// A Handled is the number up to which the messages of a writer were handled.
type Handled struct {
	Writer WriterID
	Number uint64
}

// Both have magic words of their own, so that one is never taken for the other.
const (
	stateMagic   = "udstate1"
	handledMagic = "udhandl1"
	flagOrderly  = 1
)

// AppendState appends the slot of a state to dst.
func AppendState(dst []byte, generation uint64, s State) []byte {
	slot := newSlot(stateMagic, generation, s.Writer)
	binary.LittleEndian.PutUint64(slot[32:], s.Next)
	binary.LittleEndian.PutUint32(slot[40:], s.Starts)
	if s.Orderly {
		binary.LittleEndian.PutUint32(slot[44:], flagOrderly)
	}
	copy(slot[48:], s.Boot[:])
	binary.LittleEndian.PutUint32(slot[64:], s.Confirmed)
	binary.LittleEndian.PutUint64(slot[72:], s.File)
	return append(dst, sealSlot(slot)...)
}

// ParseState returns the newer state of a file of slots and its generation. Damaged slots are not
// ok, and never an error: a spool opens without them.
func ParseState(b []byte) (s State, generation uint64, ok bool) {
	slot, generation, ok := newerSlot(b, stateMagic)
	if !ok {
		return s, 0, false
	}
	s.Writer = WriterID(slot[16:32])
	s.Next = binary.LittleEndian.Uint64(slot[32:])
	s.Starts = binary.LittleEndian.Uint32(slot[40:])
	s.Orderly = binary.LittleEndian.Uint32(slot[44:])&flagOrderly != 0
	s.Boot = [16]byte(slot[48:64])
	s.Confirmed = binary.LittleEndian.Uint32(slot[64:])
	s.File = binary.LittleEndian.Uint64(slot[72:])
	return s, generation, true
}

// IsSlots reports whether the bytes of a file may be those of a file of slots, damaged or not. A file of another
// program is none.
func IsSlots(b []byte) bool {
	if len(b) == SlotsSize || len(bytes.Trim(b, "\x00")) == 0 {
		return true
	}
	for at := 0; at < min(len(b), SlotsSize); at += slotSpace {
		begin := string(b[at:min(len(b), at+len(stateMagic))]) // The file may be cut off anywhere.
		if strings.HasPrefix(stateMagic, begin) || strings.HasPrefix(handledMagic, begin) {
			return true
		}
	}
	return false
}

// AppendHandled appends the slot of a handled number to dst.
func AppendHandled(dst []byte, generation uint64, h Handled) []byte {
	slot := newSlot(handledMagic, generation, h.Writer)
	binary.LittleEndian.PutUint64(slot[32:], h.Number)
	return append(dst, sealSlot(slot)...)
}

// ParseHandled is ParseState for a handled number.
func ParseHandled(b []byte) (h Handled, generation uint64, ok bool) {
	slot, generation, ok := newerSlot(b, handledMagic)
	if !ok {
		return h, 0, false
	}
	return Handled{WriterID(slot[16:32]), binary.LittleEndian.Uint64(slot[32:])}, generation, true
}

// SlotOffset returns where the slot of a generation belongs.
func SlotOffset(generation uint64) int64 { return int64(generation%2) * slotSpace }

func newSlot(magic string, generation uint64, writer WriterID) []byte {
	slot := make([]byte, slotSize)
	copy(slot, magic)
	binary.LittleEndian.PutUint64(slot[8:], generation)
	copy(slot[16:], writer[:])
	return slot
}

func sealSlot(slot []byte) []byte {
	binary.LittleEndian.PutUint32(slot[slotSize-4:], crc32.Checksum(slot[:slotSize-4], castagnoli))
	return slot
}

// newerSlot returns the slot with the larger generation of those that pass.
func newerSlot(b []byte, magic string) (newer []byte, generation uint64, ok bool) {
	for at := 0; at+slotSize <= min(len(b), SlotsSize); at += slotSpace {
		slot := b[at : at+slotSize]
		sum := binary.LittleEndian.Uint32(slot[slotSize-4:])
		number := binary.LittleEndian.Uint64(slot[8:])
		if string(slot[:8]) == magic && crc32.Checksum(slot[:slotSize-4], castagnoli) == sum && (!ok || number > generation) {
			newer, generation, ok = slot, number, true
		}
	}
	return newer, generation, ok
}
