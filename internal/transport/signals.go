// SPDX-License-Identifier: Apache-2.0

package transport

// This file has the errors that are no failures: why a connection's loop ends although nothing went
// wrong.

import "errors"

var (
	// ErrGracefulEnd is why a connection ended although nothing went wrong: this side or the peer closed
	// it.
	ErrGracefulEnd = errors.New("udsipc: connection ended")

	// ErrSessionPreface is no error: a session begins.
	ErrSessionPreface = errors.New("udsipc: opening of a session")

	// ErrHandOver is why a connection is paused: the next process is to have it.
	ErrHandOver = errors.New("udsipc: connection can be handed over")

	// errNoMemory is why nothing is read: the memory of the Reader is used up.
	errNoMemory = errors.New("udsipc: no memory left")

	// ErrRestartSequence is why a Writer ends a session: the next message has not the next number.
	ErrRestartSequence = errors.New("udsipc: a message was set aside")
)
