// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what can be set. An option only notes its value; config.go has the defaults and checks
// the values.

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

// A WriterOption configures a Writer.
type WriterOption interface{ applyWriter(*writerConfig) }

// A ReaderOption configures a Reader.
type ReaderOption interface{ applyReader(*readerConfig) }

// An Option configures a Writer or a Reader.
type Option interface {
	WriterOption
	ReaderOption
}

type (
	writerOption func(*writerConfig)
	readerOption func(*readerConfig)
	bothOption   func(*sharedConfig)
)

// sendOption is for whoever sends: a Writer, and a Conn of either side. A Reader refuses it by its name.
func sendOption(name string, set func(*sharedConfig)) Option {
	return bothOption(func(c *sharedConfig) {
		c.sendOnlyOption = name
		set(c)
	})
}

func (o writerOption) applyWriter(c *writerConfig) { o(c) }

func (o readerOption) applyReader(c *readerConfig) { o(c) }

func (o bothOption) applyWriter(c *writerConfig) { o(&c.sharedConfig) }

func (o bothOption) applyReader(c *readerConfig) { o(&c.sharedConfig) }

// WithMaxMessageSize sets the largest message in bytes. The default is 10 MiB. A Writer returns
// ErrMessageTooLarge for a larger message; a Reader closes the connection of a larger message,
// without losing other messages. 0 is an error; more than 1 GiB counts as 1 GiB.
func WithMaxMessageSize(bytes uint64) Option {
	return bothOption(func(c *sharedConfig) { c.maxMessageSize = bytes })
}

// WithHeartbeatTimeout sets how long a session's peer may send nothing before this side closes the
// connection. The default is 10 s, the minimum 100 ms; 0 disables it. Each side announces its
// timeout; the other sends three heartbeats in that time. It has no effect on a Unix socket without
// TLS: there the kernel reports a lost peer.
func WithHeartbeatTimeout(d time.Duration) Option {
	return bothOption(func(c *sharedConfig) { c.heartbeatTimeout = d })
}

// WithAuthorizer sets a function that accepts or rejects each peer; calls are concurrent. By
// default the permissions of the socket decide. An error closes the connection before a message
// byte is read or written (a TLS handshake comes first), and ErrUnauthorized is reported. On a
// Writer it checks the process that listens: under socket activation, systemd (PID 1, root).
// AllowUIDs, AllowGIDs and SameUser are predefined; AllOf and AnyOf combine authorizers.
func WithAuthorizer(authorize func(Peer) error) Option {
	return bothOption(func(c *sharedConfig) { c.authorizer, c.authorizerSet = authorize, true })
}

// WithTLS enables TLS on every connection, over TCP and over Unix sockets. Both sides need it; nil
// is an error. The version is 1.3 or later, unless the configuration names another (MinVersion, or
// a MaxVersion below 1.3).
//
// The constructor copies the configuration. Its callbacks (GetCertificate, GetClientCertificate,
// GetConfigForClient) are called for each connection, so certificates can be renewed. If ServerName
// is empty, a Writer uses the host of a TCP address. examples/tls has a recipe without a
// certification authority.
func WithTLS(config *tls.Config) Option {
	return bothOption(func(c *sharedConfig) { c.tls, c.tlsSet = config, true })
}

// WithPlaintext allows a TCP address beyond loopback without TLS. By default that is an error of
// the constructor, or of Start if systemd passes such a socket. Anyone on the network can read the
// messages, and write others.
func WithPlaintext() Option {
	return bothOption(func(c *sharedConfig) { c.plaintext = true })
}

// WithHandshakeTimeout sets how long a TLS handshake may take. The default is 5 s. 0 or less is an
// error.
func WithHandshakeTimeout(d time.Duration) Option {
	return bothOption(func(c *sharedConfig) { c.handshakeTimeout = d })
}

// WithCloseTimeout sets how long Close may wait: it is a Stop whose context ends after d. It bounds
// the end of Run as well. The default is 5 s. 0 ends at once: what is not delivered yet is given up. A
// negative duration is an error. It has no effect on a Conn and a Listener.
func WithCloseTimeout(d time.Duration) Option {
	return bothOption(func(c *sharedConfig) { c.closeTimeout = d })
}

// WithMaxBufferedWrites sets the largest number of messages in the queue. The default is 10,000. 0
// is an error. Without this option, a Writer's producers that wait when the queue is full
// (OverflowBlock, WriteMessageContext) may queue more small messages, up to 1 MiB, as long as the
// reader takes them at once.
func WithMaxBufferedWrites(messages uint32) Option {
	return sendOption("WithMaxBufferedWrites", func(c *sharedConfig) {
		c.maxBufferedWrites, c.maxWritesSet = uint64(messages), true
	})
}

// WithMaxBufferedBytes sets the largest number of bytes in the queue, length prefixes included. The
// default is 64 MiB. The memory for them is up to one and a half times as large. Producers that
// wait for space use no memory of the queue.
//
// A Writer returns ErrMessageTooLarge for a message that is larger than the queue. The queue of a
// Conn or a Link always has space for one message of WithMaxMessageSize. 0 is an error.
func WithMaxBufferedBytes(bytes uint64) Option {
	return sendOption("WithMaxBufferedBytes", func(c *sharedConfig) { c.maxBufferedBytes = bytes })
}

// WithWriteTimeout sets how long one write may wait before ErrBackpressure is reported. The default
// is 1 s. The write then continues: nothing is lost, and the connection stays. For a Conn, it sets
// how long Close waits for queued messages. 0 or less is an error; less than 1 ms counts as 1 ms.
func WithWriteTimeout(d time.Duration) Option {
	return sendOption("WithWriteTimeout", func(c *sharedConfig) {
		if d > 0 { // A deadline that has passed before the write begins would let no byte through.
			d = max(d, time.Millisecond)
		}
		c.writeTimeout = d
	})
}

// WithStallTimeout sets how long the peer of a Conn or a Link may read nothing of its queue before
// the connection is closed. By default there is no limit; a Server of packages duplex and rpc has
// 30 s. A Conn returns ErrBackpressure; a Link reports it, and passes it to WithStateCallback.
//
// A slow peer stays connected, as far as this side can measure: the kernel frees a Unix socket in
// pieces of up to about 100 KiB, and over TLS a record of 16 KiB must be read in that time. A
// negative duration is an error.
func WithStallTimeout(d time.Duration) Option {
	return sendOption("WithStallTimeout", func(c *sharedConfig) { c.stallTimeout = d })
}

// WithDialTimeout sets how long one attempt to connect may take. The default is 1 s. 0 or less is
// an error.
func WithDialTimeout(d time.Duration) WriterOption {
	return writerOption(func(c *writerConfig) { c.dialTimeout = d })
}

// WithMaxBackoff sets the longest delay between two attempts to connect. The default is 10 s. The
// bound of the delay grows from 10 ms; each delay is random, from 0 to its bound. 0 or less is an
// error.
func WithMaxBackoff(d time.Duration) WriterOption {
	return writerOption(func(c *writerConfig) { c.maxBackoff = d })
}

// WithWriteBufferSize sets the kernel's send buffer in bytes (SO_SNDBUF, socket(7)). By default,
// and for 0, a Writer over a Unix socket to another process asks for 208 KiB, which Linux doubles
// and counts with its own overhead; everywhere else the system's size stays. Without
// acknowledgements the size also bounds what is lost when a reader is killed. Change it only after
// a measurement. More than 1 GiB is an error.
func WithWriteBufferSize(bytes uint32) WriterOption {
	return writerOption(func(c *writerConfig) { c.writeBufferSize = bytes })
}

// WithWriterErrorCallback sets the function that is called for errors that no caller receives. By
// default there is none, and they are logged (WithLogger). While nobody listens, it gets each new cause
// once, and then a report after 1 s, 10 s, 1 min, 5 min and every 15 min.
func WithWriterErrorCallback(callback ErrorCallback) WriterOption {
	return writerOption(func(c *writerConfig) { c.onError = callback })
}

// WithOverflow sets what happens when the queue is full. The default is OverflowRefuse for a Writer
// and OverflowBlock for a Conn. An unknown policy is an error.
func WithOverflow(policy OverflowPolicy) Option {
	return sendOption("WithOverflow", func(c *sharedConfig) { c.overflow, c.overflowSet = policy, true })
}

// WithUndelivered sets a callback for messages that the Writer gives up: those left at Stop, and
// those that the reader rejects. data is valid until it returns.
func WithUndelivered(callback func(data []byte)) WriterOption {
	return writerOption(func(c *writerConfig) { c.undelivered = callback })
}

// WithAcknowledgements enables acknowledged mode: each message stays in the queue until the
// reader's handler has returned. After a disconnect it is sent again, so neither a broken
// connection nor a killed reader loses a message.
//
// Unacknowledged messages count against the limits of the queue. Once a message was sent, neither
// OverflowDropOldest nor WithMaxAge drops it. A reader without support for acknowledgements gets no
// message, and ErrAcksUnsupported is reported.
func WithAcknowledgements() WriterOption {
	return writerOption(func(c *writerConfig) { c.acknowledgements = true })
}

// WithDialer sets a function that connects, instead of the address, which then only names the peer
// in errors. The context ends after WithDialTimeout, or when the Writer stops.
//
// A type that wraps a socket loses the vectored write: one system call per batch becomes one per
// chunk. It should have a CloseWrite method like *net.TCPConn. Without one, bytes in the kernel may
// be lost at Stop, if the reader sends a goodbye at that moment.
func WithDialer(dial func(ctx context.Context) (net.Conn, error)) WriterOption {
	return writerOption(func(c *writerConfig) { c.dialer = dial })
}

// WithMaxAge sets how long a message may wait in the queue. Older messages are dropped and counted
// as expired, with a precision of 1 ms or 1/64 of d, in every state of the Writer. The default, 0,
// is no limit. A negative duration is an error.
func WithMaxAge(d time.Duration) WriterOption {
	return writerOption(func(c *writerConfig) { c.maxAge = d })
}

// WithStateCallback sets a function that is called for each change of the connection: connecting,
// connected, disconnected, stopped, in order, with the cause of a disconnect. It runs on the
// goroutine that writes: return quickly. It may call Stop with a deadline. A callback that ends its
// goroutine (runtime.Goexit) ends the Writer or the Link.
func WithStateCallback(callback func(state State, cause error)) WriterOption {
	return writerOption(func(c *writerConfig) { c.onState = callback })
}

// An OverflowPolicy is what WriteMessage does when the queue is full.
type OverflowPolicy int

// The policies of WithOverflow.
const (
	OverflowRefuse     OverflowPolicy = iota // Return ErrBufferFull at once; the default.
	OverflowBlock                            // Wait in line until there is room, or until Stop.
	OverflowDropOldest                       // Drop the oldest messages that are not being written, if that makes room.
)

func (p OverflowPolicy) String() string {
	switch p {
	case OverflowRefuse:
		return "refuse"
	case OverflowBlock:
		return "block"
	case OverflowDropOldest:
		return "drop oldest"
	}
	return fmt.Sprintf("OverflowPolicy(%d)", int(p))
}
