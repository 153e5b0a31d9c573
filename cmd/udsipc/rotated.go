// SPDX-License-Identifier: Apache-2.0

package main

// This file has the parts of a rotated file: where its last whole message ends, and the names of the older ones.

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// rotatedStamp is the time in the names of renamed files, in UTC. They are in order by their names.
const rotatedStamp = "20060102T150405.000000Z"

// renameRotated renames a file, for good: it replaces no other one.
func renameRotated(path string, now time.Time) error {
	for ; ; now = now.Add(time.Microsecond) {
		name := path + "." + now.UTC().Format(rotatedStamp)
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return os.Rename(path, name)
		} else if err != nil {
			return err
		}
	}
}

// removeRotated removes all but the newest renamed files; 0 keeps all.
func removeRotated(path string, keep int) error {
	if keep == 0 {
		return nil
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	var names []string
	for _, entry := range entries {
		stamp, ours := strings.CutPrefix(entry.Name(), filepath.Base(path)+".")
		if _, err := time.Parse(rotatedStamp, stamp); ours && err == nil && entry.Type().IsRegular() {
			names = append(names, entry.Name())
		}
	}
	slices.Sort(names)
	var failed []error
	for _, name := range names[:max(0, len(names)-keep)] {
		failed = append(failed, os.Remove(filepath.Join(filepath.Dir(path), name)))
	}
	return errors.Join(failed...)
}

// syncDir has the disk know the names of the files.
func (a *appendFile) syncDir() error {
	if !a.flags.sync {
		return nil
	}
	return syncDir(filepath.Dir(a.path))
}

// wholeLines returns where the last line ends that has its newline.
func wholeLines(file io.ReaderAt, size int64) (int64, error) {
	block := make([]byte, 64<<10)
	for end := size; end > 0; {
		from := max(0, end-int64(len(block)))
		part := block[:end-from]
		if _, err := file.ReadAt(part, from); err != nil && err != io.EOF {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return from + int64(i) + 1, nil
		}
		end = from
	}
	return 0, nil
}

// wholeFrames returns where the last frame ends of which all bytes are there.
func wholeFrames(file io.ReaderAt, size int64) (int64, error) {
	in := bufio.NewReaderSize(nil, 64<<10)
	for at, read := int64(0), int64(-1); ; { // read is where in reads, if that is not at.
		if at != read {
			in.Reset(io.NewSectionReader(file, at, size-at))
		}
		prefix, err := in.Peek(binary.MaxVarintLen64)
		if err != nil && err != io.EOF {
			return 0, err
		}
		length, width := binary.Uvarint(prefix)
		if width <= 0 || length > uint64(size-at-int64(width)) {
			return at, nil
		}
		next := at + int64(width) + int64(length)
		if read = at; next-at <= int64(in.Buffered()) {
			_, _ = in.Discard(int(next - at)) // It is buffered.
			read = next
		}
		at = next
	}
}
