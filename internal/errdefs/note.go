// SPDX-License-Identifier: Apache-2.0

package errdefs

// This file has errors that also say what happened to how many messages, for those who add them up.

// A NoteKind is what happened.
type NoteKind int

// The kinds of a Note. Each but the last three counts messages.
const (
	NoteDropped    NoteKind = iota + 1 // By OverflowDropOldest.
	NoteExpired                        // By WithMaxAge.
	NoteSetAside                       // Their reader refuses them.
	NoteLeft                           // Not delivered when a Stop ended.
	NoteDeadLetter                     // Their handler fails again and again.
	NoteDiscarded                      // Read, and not handled because of a forced stop.
	NoteDamaged                        // Could not be read from the disk.
	NoteEnded                          // A server no longer accepts.
	NoteRejected                       // A server rejects this side.
	NoteStalled                        // A connection is closed: its peer does not read.
)

// A Note is an error with its kind. It adds nothing to the text.
type Note struct {
	Kind     NoteKind
	Messages uint64 // Or 1.
	Err      error
}

func (n *Note) Error() string { return n.Err.Error() }

// Unwrap returns the error.
func (n *Note) Unwrap() error { return n.Err }
