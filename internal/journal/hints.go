// SPDX-License-Identifier: Apache-2.0

package journal

// This file reads and writes the two hints, state and handled. Nothing depends on them but the identity.

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/udsipc/udsipc/internal/disk"
	"github.com/udsipc/udsipc/internal/segment"
)

const (
	stateName   = "state"
	handledName = "handled"
)

// hints are the two files. The holder of Log.io uses them.
type hints struct {
	disk           disk.Disk
	state, handled slots
}

// A slots is a file of two slots that are written in turn.
type slots struct {
	file       disk.File // Nil if it cannot be opened.
	generation uint64    // Of the newer slot.
	unnamed    bool      // The file was made, and its name may not survive the machine.
}

// openSlots opens a file of slots, or makes it with its full size, so that writing a slot needs no room
// later. It returns what is in it.
func openSlots(d disk.Disk, name string) (s slots, content []byte, err error) {
	s.file, err = d.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		s.file, err = d.Create(name)
		s.unnamed = true
	}
	if err != nil {
		return slots{}, nil, fmt.Errorf("opening the file %s of the spool: %w", name, err)
	}
	content = make([]byte, segment.SlotsSize+1)
	n, err := s.file.ReadAt(content, 0)
	if err != nil && err != io.EOF {
		n = 0 // What cannot be read is missing.
	}
	if !segment.IsSlots(content[:n]) && !isSpool(d) {
		s.file.Close()
		return slots{}, nil, fmt.Errorf("%w: the file %s is not that of a spool: take another directory, or move it away",
			disk.ErrUnsafe, name)
	}
	content, n = content[:segment.SlotsSize], min(n, segment.SlotsSize)
	if n < segment.SlotsSize {
		_, err = s.file.WriteAt(content[n:], int64(n)) // Zeros, and no hole.
		if err != nil {
			s.file.Close()
			return slots{}, content[:n], fmt.Errorf("making the file %s of the spool: %w", name, err)
		}
	}
	return s, content[:n], nil
}

// isSpool reports whether a directory has files that only a spool can have made: segments, or a whole slot.
func isSpool(d disk.Disk) bool {
	entries, err := d.List()
	return err != nil || slices.ContainsFunc(entries, func(e disk.Entry) bool {
		_, _, ok := segment.ParseName(strings.TrimSuffix(e.Name, badSuffix))
		return ok || (e.Name == stateName || e.Name == handledName) && hasSlot(d, e.Name)
	})
}

// hasSlot reports whether a file has a slot that passes.
func hasSlot(d disk.Disk, name string) bool {
	file, err := d.Open(name)
	if err != nil {
		return false
	}
	defer file.Close()
	b := make([]byte, segment.SlotsSize)
	n, _ := file.ReadAt(b, 0)
	_, _, isState := segment.ParseState(b[:n])
	_, _, isHandled := segment.ParseHandled(b[:n])
	return isState || isHandled
}

// write writes the next slot, and syncs it if it must survive the machine.
func (s *slots) write(form func(dst []byte, generation uint64) []byte, sync bool) error {
	if s.file == nil {
		return fs.ErrClosed
	}
	slot := form(nil, s.generation+1)
	if _, err := s.file.WriteAt(slot, segment.SlotOffset(s.generation+1)); err != nil {
		return err
	}
	s.generation++
	if sync {
		return s.file.Sync()
	}
	return nil
}

// removeState removes the state for good, so that it tells nothing that is not so any more.
func (h *hints) removeState() error {
	if h.state.file != nil {
		h.state.file.Close()
		h.state.file = nil
	}
	if err := h.disk.Remove(stateName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return h.disk.SyncNames()
}

// read opens both files. What is missing or damaged is zero; known is false also for a state that was written to
// another file. The error is that of a file that is not ours.
func (h *hints) read(d disk.Disk) (state segment.State, known bool, handled segment.Handled, err error) {
	h.disk = d
	var content []byte
	h.state, content, err = openSlots(d, stateName)
	if errors.Is(err, disk.ErrUnsafe) {
		return state, false, handled, err
	}
	state, h.state.generation, known = segment.ParseState(content)
	if known && (h.state.file == nil || state.File != h.state.file.ID()) {
		known = false // It is a copy: the original may use the numbers behind it.
	}
	h.handled, content, err = openSlots(d, handledName)
	if errors.Is(err, disk.ErrUnsafe) {
		return state, false, handled, err
	}
	handled, h.handled.generation, _ = segment.ParseHandled(content)
	return state, known, handled, nil
}

// writeState writes the state and makes it survive the machine. A file that could not be made is tried again.
func (h *hints) writeState(state segment.State) (err error) {
	if h.state.file == nil {
		s, content, err := openSlots(h.disk, stateName)
		if err != nil {
			return err
		}
		_, generation, _ := segment.ParseState(content) // Opening it may have failed before.
		h.state = slots{s.file, max(h.state.generation, generation), s.unnamed}
	}
	state.File = h.state.file.ID()
	err = h.state.write(func(dst []byte, generation uint64) []byte {
		return segment.AppendState(dst, generation, state)
	}, true)
	if err == nil && h.state.unnamed {
		err = h.disk.SyncNames()
		h.state.unnamed = err != nil
	}
	if err != nil {
		return fmt.Errorf("writing the file %s of the spool: %w", stateName, err)
	}
	return nil
}

// writeHandled writes what is handled. It need not survive the machine: what comes again, the reader
// knows.
func (h *hints) writeHandled(handled segment.Handled) error {
	err := h.handled.write(func(dst []byte, generation uint64) []byte {
		return segment.AppendHandled(dst, generation, handled)
	}, false)
	if err != nil {
		return fmt.Errorf("writing the file %s of the spool: %w", handledName, err)
	}
	return nil
}

// close closes both files.
func (h *hints) close() {
	for _, s := range []*slots{&h.state, &h.handled} {
		if s.file != nil {
			s.file.Close()
			s.file = nil
		}
	}
}
