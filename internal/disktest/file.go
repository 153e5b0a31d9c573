// SPDX-License-Identifier: Apache-2.0

package disktest

// This file is an open file of the disk.

import (
	"bytes"
	"fmt"
	"io/fs"

	"github.com/udsipc/udsipc/internal/disk"
)

// A file is an open inode.
type file struct {
	disk *Disk
	name string // As it was opened; a rename does not change it.
	node *inode

	closed bool
}

// startLocked begins a call.
func (f *file) startLocked(op Op) error {
	if f.closed {
		return fmt.Errorf("%s of %s: %w", op, f.name, fs.ErrClosed)
	}
	return f.disk.startLocked(op, f.name)
}

func (f *file) ReadAt(p []byte, offset int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.startLocked(OpRead); err != nil {
		return 0, err
	}
	return bytes.NewReader(f.node.data).ReadAt(p, offset)
}

// WriteAt writes what the quota has room for, as write(2) does.
func (f *file) WriteAt(p []byte, offset int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.startLocked(OpWrite); err != nil {
		return 0, err
	}
	n, err := int64(len(p)), error(nil)
	if grown := offset + n - int64(len(f.node.data)); grown > 0 && grown > f.disk.roomLocked() {
		n -= min(n, grown-max(f.disk.roomLocked(), 0))
		err = fmt.Errorf("writing %s: %w", f.name, disk.ErrFull)
	}
	f.node.write(p[:n], offset)
	f.disk.touch(f.node)
	return int(n), err
}

func (f *file) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.startLocked(OpTruncate); err != nil {
		return err
	}
	if grown := size - int64(len(f.node.data)); grown > 0 {
		f.node.write(make([]byte, grown), int64(len(f.node.data)))
	} else {
		f.node.data = f.node.data[:size]
		f.node.dirty[size/Sector] = true
	}
	f.disk.touch(f.node)
	return nil
}

func (f *file) Sync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	err := f.startLocked(OpSync)
	switch {
	case err == ErrDead || f.closed || err == nil && f.disk.Lies:
		return err
	case err == nil:
		f.node.stable = f.node.survivor(func(int64) bool { return true }, len(f.node.data))
	}
	clear(f.node.dirty)
	return err
}

func (f *file) ID() uint64 { return f.node.id }

func (f *file) Size() (int64, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return int64(len(f.node.data)), nil
}

func (f *file) Close() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if !f.closed {
		f.closed = true
		f.disk.open--
	}
	return nil
}
