// SPDX-License-Identifier: Apache-2.0

package transport

// This file has the errors that are not failures: why the loop of a connection ends normally.

import "errors"

var (
	// ErrGracefulEnd means that this side or the peer has closed the connection gracefully.
	ErrGracefulEnd = errors.New("udsipc: connection ended")

	// ErrSessionPreface means that a session begins.
	ErrSessionPreface = errors.New("udsipc: opening of a session")

	// ErrHandOver means that the connection is paused for a hand-over.
	ErrHandOver = errors.New("udsipc: connection can be handed over")

	// ErrGathered means that gathered messages must be taken, because this side ends the connection or
	// hands it over.
	ErrGathered = errors.New("udsipc: gathered messages must be taken")

	// errNoMemory means that the read memory is used up.
	errNoMemory = errors.New("udsipc: no memory left")

	// ErrRestartSequence means that a Writer ends a session because the next message does not have
	// the next number.
	ErrRestartSequence = errors.New("udsipc: a message was set aside")
)
