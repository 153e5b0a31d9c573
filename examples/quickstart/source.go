// SPDX-License-Identifier: Apache-2.0

package main

// This file is the text that is streamed, and the form that its lines travel in.

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// defaultSource is the source tree of the Go toolchain, which is there wherever this can be run.
func defaultSource() (string, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("looking for the Go toolchain's source tree: %w; name a file or a directory instead", err)
	}
	return filepath.Join(strings.TrimSpace(string(root)), "src"), nil
}

// sourceFiles returns the regular files of a directory, or the file itself, in a fixed order, and how
// many bytes they have.
func sourceFiles(source string) (files []string, bytes int64, err error) {
	err = filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		files = append(files, path)
		bytes += info.Size()
		return nil
	})
	if err == nil && len(files) == 0 {
		err = errors.New(source + " has no regular file in it")
	}
	return files, bytes, err
}

// eachLine calls visit with each line of a file, which visit must not keep. A line that is longer
// than a message may be comes in pieces.
func eachLine(path string, visit func(line []byte) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	reader := bufio.NewReaderSize(file, 1<<20)
	for {
		line, err := reader.ReadSlice('\n')
		if len(line) > 0 {
			if err := visit(line); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}

// appendLine makes the message of a line: who wrote it, its number, and the line.
func appendLine(dst []byte, writer byte, number uint64, line []byte) []byte {
	dst = append(dst, writer)
	dst = binary.AppendUvarint(dst, number)
	return append(dst, line...)
}

// parseLine is the reverse.
func parseLine(message []byte) (writer byte, number uint64, line []byte, err error) {
	if len(message) < 2 {
		return 0, 0, nil, fmt.Errorf("a message of %d bytes", len(message))
	}
	number, n := binary.Uvarint(message[1:])
	if n <= 0 {
		return 0, 0, nil, errors.New("a message without a number")
	}
	return message[0], number, message[1+n:], nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A tally counts messages. Sums of checksums do not depend on the order between writers; the numbers
// of each writer's messages see to the order within.
type tally struct {
	Lines uint64 `json:"lines"`
	Bytes uint64 `json:"bytes"`
	Sum   uint64 `json:"sum"`
}

func (t *tally) add(message, line []byte) {
	t.Lines++
	t.Bytes += uint64(len(line))
	t.Sum += uint64(crc32.Checksum(message, castagnoli))
}

func (t *tally) merge(other tally) {
	t.Lines += other.Lines
	t.Bytes += other.Bytes
	t.Sum += other.Sum
}
