// SPDX-License-Identifier: Apache-2.0

package segment

// This file reads bytes of a file that may be cut, or of which a disk cannot read a part.

import (
	"fmt"
	"io"
)

// ErrTorn is the ErrDamaged of a batch that ends behind the end of the file: the end of a process, or
// of the machine, has cut it off. Damage of its length looks the same.
var ErrTorn = fmt.Errorf("%w: cut off", ErrDamaged)

// readLoose reads what can be read of b. A sector that cannot be read is zeros, which no batch begins
// with.
func (r *Reader) readLoose(b []byte, offset int64) {
	const sector = 512
	if readFull(r.file, b, offset) == nil {
		return
	}
	for len(b) > 0 {
		part := b[:min(len(b), sector-int(offset%sector))]
		if readFull(r.file, part, offset) != nil {
			clear(part)
		}
		b, offset = b[len(part):], offset+int64(len(part))
	}
}

// readFull reads all of b. A file that ends earlier than its size told was cut meanwhile.
func readFull(file io.ReaderAt, b []byte, offset int64) error {
	n, err := file.ReadAt(b, offset)
	if n == len(b) {
		return nil
	}
	if err == io.EOF {
		return fmt.Errorf("%w: the file ends at offset %d", ErrTorn, offset+int64(n))
	}
	return fmt.Errorf("reading the spool at offset %d: %w", offset, err)
}
