// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is all that a server knows of its options and of the program: plain values and functions.

import (
	"context"
	"crypto/tls"
	"net"
	"time"
)

// A serverConfig sets what a server does. Messages are handled by message, or by the sinks of open. Without both
// functions, connections are offered to the program.
type serverConfig struct {
	addrText string // The address as it was given, for errors.

	// Where connections come from.
	listener       net.Listener // nil: systemd's, or one that is made.
	systemdName    string
	withoutSystemd bool
	checkPassed    func(at net.Addr) error // Checks the address of a listener that systemd passed.
	socket         listenSpec              // Of the listener that is made.
	storeKey       string                  // Names what is left for the next process.

	// Limits.
	maxAcceptErrors       int
	maxConnections        int
	maxConnectionsPerUser int
	maxWriterStates       int
	writerRetention       time.Duration
	maxRedeliveries       int
	heartbeatTimeout      time.Duration
	handshakeTimeout      time.Duration

	// A connection.
	in         inLimits
	readMemory memoryLimit            // Of all read buffers together.
	tls        *tls.Config            // nil: without TLS.
	authorizer func(from *peer) error // nil: everybody is let in.

	// What is done with its messages.
	message func(data []byte) error // Handles each; not used where a sink has its own.
	open    func(from *peer) sink   // Is called once for each connection that is let in; may be nil.

	report func(op, addr string, err error) // Is told of each error that no caller gets.

	// What systemd is told.
	notify notifyConfig
}

// offersConns reports whether connections are offered to the program.
func (c *serverConfig) offersConns() bool { return c.message == nil && c.open == nil }

// A sink receives the messages of one connection. One goroutine at a time calls its functions; each may be nil.
type sink struct {
	session    func(writer id) // The messages that follow are those of this writer.
	message    func(ctx context.Context, data []byte, seq uint64, redelivered bool) error
	deadLetter func(data []byte, seq uint64, err error) // The handler has failed for this message too often.
}
