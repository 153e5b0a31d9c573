// SPDX-License-Identifier: Apache-2.0

package ipctest

// This file has what a reader that handles each message once keeps, over its own death too.

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"
)

// A Store is a file with a record of each message that was handled: writer, number and serial number. One
// goroutine may use it.
type Store struct {
	Handled map[[16]byte]uint64 // The last number of each writer.
	Serials []uint64            // In the order in which they were handled.

	file    *os.File
	pending []byte
}

const recordSize = 32

// OpenStore opens or makes a store. A record that was written in part is cut off. Numbers that do not go up are
// an error.
func OpenStore(path string) (*Store, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	content = content[:len(content)/recordSize*recordSize]
	s := &Store{file: file, Handled: map[[16]byte]uint64{}}
	for record := range slices.Chunk(content, recordSize) {
		writer, number := [16]byte(record), binary.LittleEndian.Uint64(record[16:])
		if number <= s.Handled[writer] {
			return nil, fmt.Errorf("message %d was stored after %d", number, s.Handled[writer])
		}
		s.Handled[writer] = number
		s.Serials = append(s.Serials, binary.LittleEndian.Uint64(record[24:]))
	}
	return s, file.Truncate(int64(len(content)))
}

// Add adds a message of SerialMessage, unless it is known. Save writes it.
func (s *Store) Add(writer [16]byte, number uint64, message []byte) error {
	serial, err := SerialOf(message)
	if err != nil {
		return fmt.Errorf("message %d: %w", number, err)
	}
	if number > s.Handled[writer] {
		s.Handled[writer] = number
		s.Serials = append(s.Serials, serial)
		s.pending = binary.LittleEndian.AppendUint64(append(s.pending, writer[:]...), number)
		s.pending = append(s.pending, message[:8]...)
	}
	return nil
}

// Save writes what was added, with one call of the system.
func (s *Store) Save() error {
	_, err := s.file.Write(s.pending)
	s.pending = s.pending[:0]
	return err
}

// Close closes the file.
func (s *Store) Close() error { return s.file.Close() }

// Check returns an error unless each accepted message is stored once, and those of each producer in order.
func (s *Store) Check(accepted map[uint64]bool) error {
	last := map[uint64]uint64{}
	stored := map[uint64]bool{}
	for _, serial := range s.Serials {
		producer := serial >> 24 & 0xff
		if before, any := last[producer]; any && before >= serial {
			return fmt.Errorf("message %x was handled after %x", serial, before)
		}
		last[producer], stored[serial] = serial, true
	}
	missing := 0
	for serial := range accepted {
		if !stored[serial] {
			missing++
		}
	}
	if missing > 0 {
		return fmt.Errorf("%d of %d accepted messages are missing", missing, len(accepted))
	}
	return nil
}

// Serial returns the serial number of a message: of the life of a process, a producer in it, and its count. Those
// of a producer go up.
func Serial(life, producer, n uint64) uint64 { return life<<32 | producer<<24 | n }

// SerialMessage returns the message with a serial number. Its length is one to 300 bytes more.
func SerialMessage(serial uint64) []byte {
	b := binary.LittleEndian.AppendUint64(nil, serial)
	return append(b, bytes.Repeat([]byte{byte(serial)}, int(serial*2654435761>>7%300))...)
}

// SerialOf returns the serial number of a message that is as SerialMessage made it.
func SerialOf(message []byte) (serial uint64, err error) {
	if len(message) < 8 || !bytes.Equal(message, SerialMessage(binary.LittleEndian.Uint64(message))) {
		return 0, fmt.Errorf("a message that nobody has written: %x", message)
	}
	return binary.LittleEndian.Uint64(message), nil
}

// CollectSerials reads which messages a process has accepted, until it has ended. After so many it calls end.
func CollectSerials(output io.Reader, accepted map[uint64]bool, left int, end func()) {
	for b := make([]byte, 8); ; left-- {
		if left == 0 {
			end()
		}
		if _, err := io.ReadFull(output, b); err != nil {
			return
		}
		accepted[binary.LittleEndian.Uint64(b)] = true
	}
}
