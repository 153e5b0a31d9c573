// SPDX-License-Identifier: Apache-2.0

package journal

// This file keeps some of the file system free.

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/udsipc/udsipc/internal/disk"
)

// freeStep and freeTime are how much is written, and how long, before the file system is asked again for its
// free space. What others write in that time is not seen.
const (
	freeStep = 4 << 20
	freeTime = time.Second
)

// A freeSpace is what may be written without asking again. The holder of Log.io uses it.
type freeSpace struct {
	disk  disk.Disk
	min   uint64 // What has to stay free; 0: nothing is asked.
	left  uint64
	asked time.Time
}

// takes reports whether n bytes may be written without asking again, and takes them.
func (f *freeSpace) takes(n int64, now time.Time) bool {
	if f.min == 0 {
		return true
	}
	if age := now.Sub(f.asked); uint64(n) > f.left || age < 0 || age >= freeTime {
		return false
	}
	f.left -= uint64(n)
	return true
}

// ask takes n bytes of what the file system has, at least what is in free, and notes it there. Else it returns
// ErrFull, and how many are lacking.
func (f *freeSpace) ask(n int64, free *uint64, now time.Time) (lacking uint64, err error) {
	if f.min == 0 {
		return 0, nil
	}
	f.left = 0
	has, err := f.disk.Free()
	if err != nil {
		return 0, err
	}
	*free = max(*free, has)
	need := f.min + min(uint64(n), math.MaxUint64-f.min)
	if *free < need {
		return need - *free, fmt.Errorf("%w: the file system has %d bytes free, want %d and %d more (WithMinFree)",
			ErrFull, *free, f.min, n)
	}
	f.left, f.asked = min(*free-need, freeStep), now
	return 0, nil
}

// checkLeft returns an error if messages are left and no later process will find them: somebody has removed their
// files, or the directory.
func (l *Log) checkLeft() error {
	l.mu.Lock()
	parts := slices.Clone(l.segments)
	l.mu.Unlock()
	if l.waitingOf(parts) == 0 {
		return nil
	}
	entries, err := l.disk.List()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil // Nothing is known.
	}
	lost := slices.DeleteFunc(parts, func(p *part) bool {
		_, found := slices.BinarySearchFunc(entries, p.name, func(e disk.Entry, name string) int {
			return strings.Compare(e.Name, name)
		})
		return found
	})
	if n := l.waitingOf(lost); n > 0 {
		return fmt.Errorf("%d messages are lost: their files were removed while they were in use: %w", n, fs.ErrNotExist)
	}
	return nil
}

// waitingOf returns how many messages of some segments are not handled.
func (l *Log) waitingOf(parts []*part) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waitingLocked(parts)
}
