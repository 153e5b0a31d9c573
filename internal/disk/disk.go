// SPDX-License-Identifier: Apache-2.0

// Package disk is what the log of a spool knows of a file system: one directory with files of flat
// names. Open gives the directory of the operating system; a test has one in memory.
//
// A Disk and its files are safe for concurrent use. The caller keeps the bytes that it passes: no
// method keeps a slice.
//
// What was written survives the process at once. It survives the machine after File.Sync, and a new
// name after Disk.SyncNames. A removal needs no sync: a file that comes back is harmless.
package disk

import (
	"errors"
	"time"
)

// The errors of every Disk. What a Disk returns matches these with errors.Is where they apply.
var (
	// ErrFull: the file system, the quota of the user, or the file has no room. WriteAt may have written a part.
	ErrFull = errors.New("udsipc: disk is full")
	// ErrFileSize: an ErrFull of one file. Removing others makes no room.
	ErrFileSize = errors.New("udsipc: file is too large")
	// ErrInUse: another process, or another Disk of this one, has locked the directory.
	ErrInUse = errors.New("udsipc: spool is in use")
	// ErrUnsafe: another user can replace the files of the directory, or an entry is no regular file of its
	// owner, or one of another program.
	ErrUnsafe = errors.New("udsipc: spool is not safe")
)

// A Disk is one locked directory. Names have no separators. A missing file is fs.ErrNotExist, an
// existing one fs.ErrExist.
type Disk interface {
	// Create makes a file, which must not exist, for reading and writing.
	Create(name string) (File, error)
	// Open opens an existing regular file for reading and writing. It follows no links: ErrUnsafe.
	Open(name string) (File, error)
	// Remove removes a name. A file that is open stays readable.
	Remove(name string) error
	// Rename changes a name. It replaces an existing file of the new name.
	Rename(from, to string) error
	// List returns all entries, in the order of their names. Open of one that is no regular file is ErrUnsafe.
	List() ([]Entry, error)
	// SyncNames makes the names that were created and renamed survive the machine. If the directory was removed, the
	// error is fs.ErrNotExist.
	SyncNames() error
	// Free returns how many bytes of the file system this user may still write, or the largest number
	// if the system does not tell. If the directory was removed, the error is fs.ErrNotExist.
	Free() (uint64, error)
	// Close unlocks the directory. Files stay usable.
	Close() error
}

// A File is an open file.
type File interface {
	// ReadAt is that of io.ReaderAt.
	ReadAt(p []byte, offset int64) (n int, err error)
	// WriteAt is that of io.WriterAt. After an error the first n bytes are written.
	WriteAt(p []byte, offset int64) (n int, err error)
	// Truncate sets the size.
	Truncate(size int64) error
	// Sync makes the content and the size survive the machine. After an error nothing is known of what was
	// written since the last Sync: a later Sync may return nil without having written it.
	Sync() error
	// ID returns a number that the file keeps as long as it is there, under each of its names, and that a copy has
	// not: the inode number. It is 0 if the system does not tell.
	ID() uint64
	// Size returns the current size.
	Size() (int64, error)
	// Close closes the file. It does not sync.
	Close() error
}

// An Entry is a file of a directory.
type Entry struct {
	Name     string
	Size     int64
	Modified time.Time // Time of the last write, by the clock of the file system.
}

// Broken returns a file of which nothing can be read or written, because of cause.
func Broken(cause error) File { return broken{cause} }

type broken struct{ cause error }

func (b broken) ReadAt([]byte, int64) (int, error) { return 0, b.cause }

func (b broken) WriteAt([]byte, int64) (int, error) { return 0, b.cause }

func (b broken) Truncate(int64) error { return b.cause }

func (b broken) Sync() error { return b.cause }

func (b broken) ID() uint64 { return 0 }

func (b broken) Size() (int64, error) { return 0, b.cause }

func (b broken) Close() error { return nil }
