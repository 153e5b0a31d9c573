// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file has the errors that are no failures: why a connection's loop ends although nothing went
// wrong.

import "errors"

var (
	// errGracefulEnd is why a connection ended that nothing went wrong with: told to, by this side or the
	// other.
	errGracefulEnd = errors.New("udsipc: connection ended")

	// errSessionPreface is no error: a session begins.
	errSessionPreface = errors.New("udsipc: opening of a session")

	// errHandOver is why a connection is at rest: the next process is to have it.
	errHandOver = errors.New("udsipc: connection can be handed over")

	// errNoMemory is why nothing is read: the memory of the Reader is used up.
	errNoMemory = errors.New("udsipc: no memory left")

	// errRestartSequence is why a Writer ends a session: the next message has not the next number.
	errRestartSequence = errors.New("udsipc: a message was set aside")
)
