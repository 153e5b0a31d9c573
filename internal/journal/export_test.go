// SPDX-License-Identifier: Apache-2.0

package journal

// SpareGroups returns how many buffers of Append are kept for reuse.
func (l *Log) SpareGroups() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.spare)
}

// SumIsRight reports whether the size of all segments that is kept is that of a count.
func (l *Log) SumIsRight() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	var sum int64
	for _, p := range l.segments {
		sum += p.size
	}
	return sum == l.bytesLocked()
}

// HoldWrites keeps all that is written from the disk until the function that it returns is called.
func (l *Log) HoldWrites() (write func()) {
	l.io.Lock()
	return l.io.Unlock
}

// A Group is what will be written as one.
type Group struct {
	group *group
	count int
}

// Forming returns the group that others may join.
func (l *Log) Forming() Group {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.group == nil {
		return Group{}
	}
	return Group{l.group, l.group.count}
}
