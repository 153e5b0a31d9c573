// SPDX-License-Identifier: Apache-2.0

package receiver

// This file has the settings of a server: plain values and functions.

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
	Listener       net.Listener // nil: the listener that systemd passed, or a new one.
	SystemdName    string
	WithoutSystemd bool
	CheckPassed    func(at net.Addr) error // Checks the address of a listener that systemd passed.
	Socket         socket.Spec             // Of a new listener.
	StoreKey       string                  // Key of this server in the descriptor store.

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
	Authorizer func(from *transport.Peer) error // nil: every peer is accepted.

	// Handling messages.
	Message func(data []byte) error         // Handles each message; not used where a sink has its own.
	Open    func(from *transport.Peer) Sink // Called once for each accepted connection; may be nil.
	Batches *Batches                        // The sinks of Open add to batches; nil: they have functions for each message.

	Report func(op, addr string, err error) // Called for each error that no caller receives.

	Ended func() // Called before Finished is closed, maybe more than once; may be nil.

	// Notifications to systemd.
	Notify systemd.NotifyConfig
}

// offersConns reports whether the program accepts the connections.
func (c *Config) offersConns() bool { return c.Message == nil && c.Open == nil }

// A Sink handles the messages of one connection. One goroutine at a time calls its functions; each
// may be nil, but Add must be there for batches.
type Sink struct {
	Session func(writer wire.WriterID) // The following messages come from this writer.
	Add     func(batch Batch, data []byte, seq uint64, redelivered bool)
	Message func(ctx context.Context, data []byte, seq uint64, redelivered bool) error
	// The message was given up after the redeliveries.
	DeadLetter func(data []byte, seq uint64, err error)
}
