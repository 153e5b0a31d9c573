// SPDX-License-Identifier: Apache-2.0

// Package disktest has a disk in memory, for tests of what a spool does when a process is killed, the
// power is lost, or the disk fails.
//
// A Disk is one life of a process: Kill and PowerLoss end it and return the next one, with the files
// that are left. All calls on the former one, and on its files, fail then.
package disktest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/udsipc/udsipc/internal/disk"
)

// Sector is the size in bytes of what a disk writes whole or not at all.
const Sector = 512

// ErrDead is the error of every call after Kill and PowerLoss.
var ErrDead = errors.New("disktest: the process of this disk is gone")

// ErrBroken, returned by Fault for an OpOpen, makes the file one of which nothing can be read (disk.Broken).
var ErrBroken = errors.New("disktest: the file system cannot read this file")

// An Op names a call, for Disk.Fault.
type Op string

// The calls of disk.Disk and disk.File that Fault sees.
const (
	OpCreate    Op = "create"
	OpOpen      Op = "open"
	OpRemove    Op = "remove"
	OpRename    Op = "rename"
	OpList      Op = "list"
	OpSyncNames Op = "sync names"
	OpRead      Op = "read"
	OpWrite     Op = "write"
	OpTruncate  Op = "truncate"
	OpSync      Op = "sync"
)

// A Disk is a directory in memory. Set its exported fields before it is used.
type Disk struct {
	// Fault, if it is set, is called before each call. An error is returned instead of the call. Then a
	// sync has written nothing, and the disk holds what it should have written for clean.
	Fault func(op Op, name string) error
	// Quota is how many bytes all files may have together; 0 is no limit.
	Quota int64
	// Lies makes the syncs of files and names return nil and do nothing.
	Lies bool
	// Now is the time of the writes; without it, they have none.
	Now func() time.Time

	mu      sync.Mutex
	dead    bool
	locked  bool
	open    int               // Files that are not closed.
	names   map[string]*inode // As the process sees them.
	durable map[string]*inode // As the disk has them.
	changes []change          // What was done to names since the last SyncNames.
}

var _ disk.Disk = (*Disk)(nil)

// A change is an unsynced change of names: from is empty for a new file, to for a removed one.
type change struct {
	from, to string
	node     *inode
}

// lastID is the ID of the newest inode of all disks.
var lastID atomic.Uint64

// An inode is a file without its name.
type inode struct {
	id       uint64
	data     []byte         // As the process sees it.
	stable   []byte         // As the disk has it; a byte behind its end is zero there.
	dirty    map[int64]bool // The sectors that were written since the last sync.
	modified time.Time
}

// New returns an empty disk.
func New() *Disk {
	return &Disk{names: map[string]*inode{}, durable: map[string]*inode{}}
}

// Lock takes the lock of the directory: disk.ErrInUse until Close, or the end of the life.
func (d *Disk) Lock() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.locked {
		return fmt.Errorf("%w: the disk in memory", disk.ErrInUse)
	}
	d.locked = true
	return nil
}

// startLocked begins a call.
func (d *Disk) startLocked(op Op, name string) error {
	if d.dead {
		return ErrDead
	}
	if d.Fault != nil {
		return d.Fault(op, name)
	}
	return nil
}

// Create and the other methods are those of disk.Disk.
func (d *Disk) Create(name string) (disk.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.startLocked(OpCreate, name); err != nil {
		return nil, err
	}
	if d.names[name] != nil {
		return nil, fmt.Errorf("creating %s: %w", name, fs.ErrExist)
	}
	node := &inode{id: lastID.Add(1), dirty: map[int64]bool{}}
	d.touch(node)
	d.names[name] = node
	d.changes = append(d.changes, change{to: name, node: node})
	d.open++
	return &file{disk: d, name: name, node: node}, nil
}

func (d *Disk) Open(name string) (disk.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.startLocked(OpOpen, name); err == ErrBroken {
		return disk.Broken(err), nil
	} else if err != nil {
		return nil, err
	}
	node := d.names[name]
	if node == nil {
		return nil, fmt.Errorf("opening %s: %w", name, fs.ErrNotExist)
	}
	d.open++
	return &file{disk: d, name: name, node: node}, nil
}

func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.startLocked(OpRemove, name); err != nil {
		return err
	}
	node := d.names[name]
	if node == nil {
		return fmt.Errorf("removing %s: %w", name, fs.ErrNotExist)
	}
	delete(d.names, name)
	d.changes = append(d.changes, change{from: name, node: node})
	return nil
}

func (d *Disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.startLocked(OpRename, from); err != nil {
		return err
	}
	node := d.names[from]
	if node == nil {
		return fmt.Errorf("renaming %s: %w", from, fs.ErrNotExist)
	}
	delete(d.names, from)
	d.names[to] = node
	d.changes = append(d.changes, change{from, to, node})
	return nil
}

func (d *Disk) List() ([]disk.Entry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.startLocked(OpList, ""); err != nil {
		return nil, err
	}
	var entries []disk.Entry
	for _, name := range slices.Sorted(maps.Keys(d.names)) {
		node := d.names[name]
		entries = append(entries, disk.Entry{Name: name, Size: int64(len(node.data)), Modified: node.modified})
	}
	return entries, nil
}

func (d *Disk) SyncNames() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.startLocked(OpSyncNames, ""); err != nil || d.Lies {
		return err
	}
	d.durable, d.changes = maps.Clone(d.names), nil
	return nil
}

func (d *Disk) Free() (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return 0, ErrDead
	}
	return uint64(max(d.roomLocked(), 0)), nil
}

func (d *Disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.locked = false
	return nil
}

// roomLocked returns how many bytes the quota leaves.
func (d *Disk) roomLocked() int64 {
	if d.Quota == 0 {
		return math.MaxInt64
	}
	room := d.Quota
	for _, node := range d.names {
		room -= int64(len(node.data))
	}
	return room
}

func (d *Disk) touch(node *inode) {
	if d.Now != nil {
		node.modified = d.Now()
	}
}

// Content returns a copy of a file as the process sees it, and whether there is one.
func (d *Disk) Content(name string) ([]byte, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	node := d.names[name]
	if node == nil {
		return nil, false
	}
	return bytes.Clone(node.data), true
}

// SetContent replaces a file, or makes one, on the disk as well.
func (d *Disk) SetContent(name string, data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	node := &inode{id: lastID.Add(1), data: bytes.Clone(data), stable: bytes.Clone(data), dirty: map[int64]bool{}}
	if replaced := d.names[name]; replaced != nil {
		node.id = replaced.id // It is written in place.
	}
	d.touch(node)
	d.names[name], d.durable[name] = node, node
}

// OpenFiles returns how many files of this life are open.
func (d *Disk) OpenFiles() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open
}

// Names returns the names of all files that end so, in order.
func (d *Disk) Names(suffix string) (names []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name := range d.names {
		if strings.HasSuffix(name, suffix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
