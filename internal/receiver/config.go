// SPDX-License-Identifier: Apache-2.0

package receiver

// This file is all that a server knows of the options and of the program: plain values and functions.

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/udsipc/udsipc/internal/socket"
	"github.com/udsipc/udsipc/internal/systemd"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// A Config has the settings of a server. Message handles the messages, or the sinks of Open do. Without both
// functions, connections are offered to the program.
type Config struct {
	AddrText string // The address as it was given, for errors.

	// Where connections come from.
	Listener       net.Listener // nil: systemd's, or one that is made.
	SystemdName    string
	WithoutSystemd bool
	CheckPassed    func(at net.Addr) error // Checks the address of a listener that systemd passed.
	Socket         socket.Spec             // Of the listener that is made.
	StoreKey       string                  // Names what is left for the next process.

	// Limits.
	MaxAcceptErrors       int
	MaxConnections        int
	MaxConnectionsPerUser int
	MaxWriterStates       int
	WriterRetention       time.Duration
	MaxRedeliveries       int
	HeartbeatTimeout      time.Duration
	HandshakeTimeout      time.Duration

	// A connection.
	In         transport.Limits
	ReadMemory transport.Memory                 // Of all read buffers together.
	TLS        *tls.Config                      // nil: without TLS.
	Authorizer func(from *transport.Peer) error // nil: everybody is let in.

	// What is done with its messages.
	Message func(data []byte) error         // Handles each; not used where a sink has its own.
	Open    func(from *transport.Peer) Sink // Is called once for each connection that is let in; may be nil.

	Report func(op, addr string, err error) // Is told of each error that no caller gets.

	// What systemd is told.
	Notify systemd.NotifyConfig
}

// offersConns reports whether connections are offered to the program.
func (c *Config) offersConns() bool { return c.Message == nil && c.Open == nil }

// A Sink receives the messages of one connection. One goroutine at a time calls its functions; each may be nil.
type Sink struct {
	Session    func(writer wire.WriterID) // The messages that follow are those of this writer.
	Message    func(ctx context.Context, data []byte, seq uint64, redelivered bool) error
	DeadLetter func(data []byte, seq uint64, err error) // The handler has failed for this message too often.
}
