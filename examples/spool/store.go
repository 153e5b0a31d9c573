// SPDX-License-Identifier: Apache-2.0

package main

// This file is what the reader stores: a file to which it appends.
//
// What makes it exactly once is that the effect of a message and its number are stored as one: here they
// are one record, in a database they would be one transaction. A message that comes again has a number
// that is not above the largest one that is stored of its writer, and is skipped.
//
// A write that has returned survives the kill of the process, because the kernel has it. This program
// kills processes, not the machine, so that is enough. A reader that must keep its effects when the
// machine loses power calls file.Sync before it returns from the handler, once for each batch: the
// writer removes a message from its disk when the handler has returned.

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/udsipc/udsipc"
)

// A record is a message that was handled.
type record struct {
	writer   udsipc.WriterID
	seq      uint64
	start, n uint64 // What is in the message.
}

// recordSize is the size of a record in the file: the writer, the number, and the message.
const recordSize = 16 + 8 + messageSize

// A store is the open file.
type store struct {
	mu   sync.Mutex // Guards what follows: connections have handlers of their own.
	file *os.File
	size int64
	last map[udsipc.WriterID]uint64 // The largest number of each writer.
}

// openStore opens the file, and calls visit for each record, if it is not nil. A kill may have cut off the last
// record: its message has not been handled.
func openStore(name string, visit func(record)) (*store, error) {
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	s := &store{file: file, last: map[udsipc.WriterID]uint64{}}
	var b [recordSize]byte
	for in := bufio.NewReaderSize(file, 1<<20); err == nil; {
		if _, err = io.ReadFull(in, b[:]); err == nil {
			r := parseRecord(b[:])
			s.last[r.writer] = r.seq // The last one is the largest.
			s.size += recordSize
			if visit != nil {
				visit(r)
			}
		}
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = file.Truncate(s.size)
	}
	return s, err
}

// add stores the messages of a batch that are not stored yet.
func (s *store) add(batch []udsipc.Delivery) (added, known int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b []byte
	for i := range batch {
		d := &batch[i]
		if d.Seq <= s.last[d.Writer] {
			known++
			continue
		}
		if len(d.Data) != messageSize {
			return 0, 0, fmt.Errorf("a message of %d bytes", len(d.Data))
		}
		b = append(b, d.Writer[:]...)
		b = binary.BigEndian.AppendUint64(b, d.Seq)
		b = append(b, d.Data...)
		added++
	}
	if _, err := s.file.WriteAt(b, s.size); err != nil {
		return 0, 0, err // The next batch is written over it.
	}
	s.size += int64(len(b))
	for i := range batch {
		d := &batch[i]
		s.last[d.Writer] = max(s.last[d.Writer], d.Seq) // It may be one that came again.
	}
	return added, known, nil
}

func parseRecord(b []byte) (r record) {
	copy(r.writer[:], b)
	r.seq = binary.BigEndian.Uint64(b[16:])
	r.start = binary.BigEndian.Uint64(b[24:])
	r.n = binary.BigEndian.Uint64(b[32:])
	return r
}
