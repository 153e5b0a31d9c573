// SPDX-License-Identifier: Apache-2.0

package spool

// This file has the errors, and what the log on disk tells of as one.

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/disk"
	"github.com/udsipc/udsipc/internal/journal"
	"github.com/udsipc/udsipc/internal/segment"
)

var (
	// ErrSpoolFull is matched by the error of a write that found no room: WithMaxBytes or WithMinFree
	// would be exceeded, or the disk is full. None of its messages is in the spool.
	ErrSpoolFull = journal.ErrFull

	// ErrSpoolInUse is matched by the error of NewWriter and Deliver while another Writer has the directory,
	// of this process or another one.
	ErrSpoolInUse = disk.ErrInUse

	// ErrUnsafe is matched by the error of NewWriter and Deliver for a directory in which another user can
	// replace files, or in which a file of a spool is a link, another user's, or another program's.
	ErrUnsafe = disk.ErrUnsafe

	// ErrDamaged is reported for a part of a file that cannot be read. A DamageError says which messages
	// are missing.
	ErrDamaged = segment.ErrDamaged

	// ErrLeft is matched by the error of Stop and Deliver if messages stay in the spool. They go out at the next
	// start, so they are no error of Close.
	ErrLeft = errors.New("udsipc: messages stay in the spool")

	// ErrNotDelivered is matched by the error of a Flush before which messages were dropped, have expired, were
	// damaged, or were refused by the reader.
	ErrNotDelivered = errors.New("udsipc: messages were not delivered")

	// ErrIdentity is reported when the reader knows messages of another copy of the spool, as after a backup was
	// restored. Messages that are not handled get a new Delivery.Writer.
	ErrIdentity = errors.New("udsipc: identity is given up")
)

// A DamageError says what could not be read. It matches ErrDamaged.
type DamageError struct {
	File     string // Name of the file in the directory. If Bytes is not 0, it is kept as File with ".bad" behind it.
	Writer   udsipc.WriterID
	From, To uint64 // Messages from From to below To are missing. If they are equal, none is known to be.
	Bytes    int64  // Size of the part; 0 if the file ends too early, or is gone.
	Err      error
}

func (e *DamageError) Error() string {
	what := "no message is known to be missing"
	if e.To > e.From {
		what = fmt.Sprintf("messages %d to %d of writer %v are missing", e.From, e.To-1, e.Writer)
	}
	text := fmt.Sprintf("%s in the file %s", what, e.File)
	if e.Bytes > 0 {
		text = fmt.Sprintf("%d bytes of the file %s cannot be read: %s; the file is kept as %s.bad",
			e.Bytes, e.File, what, e.File)
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *DamageError) Unwrap() []error { return []error{ErrDamaged, e.Err} }

// An absence is why a reader is away. A socket file that is missing is no missing spool: it does not match
// fs.ErrNotExist.
type absence struct{ cause error }

func (e *absence) Error() string { return e.cause.Error() }

// Is reports whether the cause matches.
func (e *absence) Is(target error) bool {
	return target != fs.ErrNotExist && errors.Is(e.cause, target)
}

// As looks into the cause.
func (e *absence) As(target any) bool { return errors.As(e.cause, target) }

// opError is an error of an operation on the spool in a directory.
func opError(op, dir string, err error) error {
	if err == nil {
		return nil
	}
	return &udsipc.OpError{Op: op, Addr: dir, Err: err}
}
