// SPDX-License-Identifier: Apache-2.0

package disktest

// This file ends the life of a disk: what the next one finds.

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
)

// write sets bytes of the file as the process sees it.
func (n *inode) write(p []byte, offset int64) {
	if len(p) == 0 {
		return
	}
	end := offset + int64(len(p))
	first := min(offset, int64(len(n.data)))
	if grown := end - int64(len(n.data)); grown > 0 {
		n.data = append(n.data, make([]byte, grown)...)
	}
	copy(n.data[offset:], p)
	for sector := first / Sector; sector*Sector < end; sector++ {
		n.dirty[sector] = true
	}
}

// survivor returns the file with a size, if the disk kept the dirty sectors that kept tells of. A
// sector that it never wrote has zeros.
func (n *inode) survivor(kept func(sector int64) bool, size int) []byte {
	data := make([]byte, size)
	copy(data, n.stable)
	for sector := int64(0); sector*Sector < int64(size); sector++ {
		from := sector * Sector
		to := min(from+Sector, int64(size))
		if n.dirty[sector] && kept(sector) {
			clear(data[from:to])
			if from < int64(len(n.data)) {
				copy(data[from:to], n.data[from:])
			}
		}
	}
	return data
}

// Kill ends the life of the process: the next one finds all that was written. The faults are gone,
// the quota stays.
func (d *Disk) Kill() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
	next := &Disk{Quota: d.Quota, Now: d.Now, names: maps.Clone(d.names), durable: maps.Clone(d.durable)}
	next.changes = append(next.changes, d.changes...)
	return next
}

// Copy returns a copy of all files as the process sees them, as a snapshot of the file system has them: files keep
// their IDs. The life goes on.
func (d *Disk) Copy() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	other := &Disk{Quota: d.Quota, Now: d.Now, names: map[string]*inode{}, durable: map[string]*inode{}}
	for name, node := range d.names {
		other.names[name] = &inode{id: node.id, data: bytes.Clone(node.data), stable: bytes.Clone(node.data),
			dirty: map[int64]bool{}, modified: node.modified}
	}
	other.durable = maps.Clone(other.names)
	return other
}

// PowerLoss ends the life of the machine. Of what was not synced, the disk has kept or lost each sector,
// each size and each change of a name, by the random numbers. A rename is one change.
func (d *Disk) PowerLoss(random *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
	names := maps.Clone(d.durable)
	for _, c := range d.changes {
		if random.IntN(2) == 0 {
			continue
		}
		if c.from != "" && names[c.from] == c.node {
			delete(names, c.from)
		}
		if c.to != "" {
			names[c.to] = c.node
		}
	}
	next := &Disk{Quota: d.Quota, Now: d.Now, names: map[string]*inode{}, durable: map[string]*inode{}}
	survived := map[*inode]*inode{}                        // A file may have two names now.
	for _, name := range slices.Sorted(maps.Keys(names)) { // In order, so that a seed tells all.
		node := names[name]
		if survived[node] == nil {
			survived[node] = node.afterPowerLoss(random)
		}
		next.names[name], next.durable[name] = survived[node], survived[node]
	}
	return next
}

// afterPowerLoss returns what the disk has of a file. A size that was not synced is the old one, the new
// one, or one between.
func (n *inode) afterPowerLoss(random *rand.Rand) *inode {
	size := len(n.stable)
	if len(n.dirty) > 0 {
		switch random.IntN(3) {
		case 0:
			size = len(n.data)
		case 1:
			low, high := min(len(n.stable), len(n.data)), max(len(n.stable), len(n.data))
			size = min((low+random.IntN(high-low+1))/Sector*Sector+Sector, high)
		}
	}
	share := random.IntN(5) // Of four; so in some lives nothing is lost, in some all is.
	data := n.survivor(func(int64) bool { return random.IntN(4) < share }, size)
	return &inode{id: n.id, data: data, stable: bytes.Clone(data), dirty: map[int64]bool{}, modified: n.modified}
}
