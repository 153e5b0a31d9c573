// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file has the errors that are no failures: why a connection's loop ends although nothing went
// wrong.

import "errors"

var (
	// errEnded is why a connection ended that nothing went wrong with: told to, by this side or the
	// other.
	errEnded = errors.New("udsipc: connection ended")

	// errOpening is no error: a session begins.
	errOpening = errors.New("udsipc: opening of a session")

	// errHandOver is why a connection is at rest: the next process is to have it.
	errHandOver = errors.New("udsipc: connection can be handed over")

	// errNoSpace is why nothing is read: the memory of the Reader is used up.
	errNoSpace = errors.New("udsipc: no memory left")

	// errRenumber is why a Writer ends a session: the next message has not the next number.
	errRenumber = errors.New("udsipc: a message was set aside")
)
