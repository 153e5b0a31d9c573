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

// A WriterOption sets something of a Writer.
type WriterOption interface{ applyWriter(*writerConfig) }

// A ReaderOption sets something of a Reader.
type ReaderOption interface{ applyReader(*readerConfig) }

// An Option is usable as either.
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
		c.sending = name
		set(c)
	})
}

func (o writerOption) applyWriter(c *writerConfig) { o(c) }

func (o readerOption) applyReader(c *readerConfig) { o(c) }

func (o bothOption) applyWriter(c *writerConfig) { o(&c.sharedConfig) }

func (o bothOption) applyReader(c *readerConfig) { o(&c.sharedConfig) }

// WithMaxMessageSize sets the largest message in bytes; the default is 10 MiB. A Writer returns
// ErrMessageTooLarge for a larger one, a Reader refuses the connection that sends one. 0 is an error;
// more than 1 GiB counts as 1 GiB.
func WithMaxMessageSize(bytes uint64) Option {
	return bothOption(func(c *sharedConfig) { c.maxMessageSize = bytes })
}

// WithPeerTimeout sets how long the other end of an acknowledged connection may be silent before the
// connection is given up and made anew, over anything but a Unix socket, whose kernel tells when a
// peer is gone; the default is 10 s, and 0 is never. Each side tells the other how long it waits, and
// the other sends a heartbeat three times in that time. 100 ms is the least.
func WithPeerTimeout(d time.Duration) Option {
	return bothOption(func(c *sharedConfig) { c.peerTimeout = d })
}

// WithAuthorizer sets who may be at the other end; by default whoever the socket's permissions let in.
// An error refuses the peer: the connection is closed before one of its bytes is looked at or one is
// sent to it, but for a TLS handshake, and ErrUnauthorized is reported with the error. AllowUIDs,
// AllowGIDs and SameUser are ready-made; AllOf and AnyOf combine. It is called for each connection, from
// its goroutine, so at once for several. A Writer uses it to make sure who listens; mind that under
// socket activation that is systemd (Credentials).
func WithAuthorizer(authorize func(Peer) error) Option {
	return bothOption(func(c *sharedConfig) { c.authorizer, c.authorizerSet = authorize, true })
}

// WithTLS has every connection speak TLS, over TCP and over Unix sockets alike: version 1.3 or later, unless the
// configuration names another (MinVersion, or a MaxVersion below 1.3). The configuration is copied by the
// constructor: what is changed in it later has no effect, but its callbacks (GetCertificate, GetClientCertificate,
// GetConfigForClient) are asked at each connection, so certificates can be renewed. A Writer takes the
// ServerName from a TCP address if none is set. Both sides need it; nil is an error.
func WithTLS(config *tls.Config) Option {
	return bothOption(func(c *sharedConfig) { c.tls, c.tlsSet = config, true })
}

// WithPlaintext allows a TCP address that is not loopback without TLS, which is an error otherwise, of Start if systemd
// passes such a socket: everybody on the way may read the messages, and write others.
func WithPlaintext() Option {
	return bothOption(func(c *sharedConfig) { c.plaintext = true })
}

// WithHandshakeTimeout sets how long a TLS handshake may take; the default is 5 s. Not more than 0 is
// an error.
func WithHandshakeTimeout(d time.Duration) Option {
	return bothOption(func(c *sharedConfig) { c.handshakeTimeout = d })
}

// WithMaxBufferedWrites bounds the queue in messages; the default is 10,000. 0 is an error.
func WithMaxBufferedWrites(messages uint32) Option {
	return sendOption("WithMaxBufferedWrites", func(c *sharedConfig) { c.maxBufferedWrites = uint64(messages) })
}

// WithMaxBufferedBytes bounds the queue in bytes, length prefixes included; the default is 64 MiB. The memory for them is
// up to a half more. Producers that wait for room hold none.
// A message that is larger by itself gets ErrMessageTooLarge from a Writer; a Conn or a Link has room for at least one
// message of WithMaxMessageSize. 0 is an error.
func WithMaxBufferedBytes(bytes uint64) Option {
	return sendOption("WithMaxBufferedBytes", func(c *sharedConfig) { c.maxBufferedBytes = bytes })
}

// WithWriteTimeout sets how long one write may wait before ErrBackpressure is reported; the default
// is 1 s. The write then goes on: nothing is lost, and the connection stays. Of a Conn it sets how long Close waits for
// what is still to be written. Not more than 0 is an error.
func WithWriteTimeout(d time.Duration) Option {
	return sendOption("WithWriteTimeout", func(c *sharedConfig) { c.writeTimeout = d })
}

// WithStallTimeout ends a connection of a Listener, of Dial or of a Link when something is queued for the peer and the peer
// takes nothing of it for so long. The default is never; of a Server of packages duplex and rpc it is 30 s. A peer that takes
// bytes slowly is kept, as far as this side can see it: the kernel frees a Unix socket in pieces of up to some 100 KiB, and
// over TLS a record of 16 KiB has to be taken in that time. The end is reported as ErrBackpressure. A negative one is an error.
func WithStallTimeout(d time.Duration) Option {
	return sendOption("WithStallTimeout", func(c *sharedConfig) { c.stallTimeout = d })
}

// WithDialTimeout sets how long one attempt to connect may take; the default is 1 s. Not more than 0
// is an error.
func WithDialTimeout(d time.Duration) WriterOption {
	return writerOption(func(c *writerConfig) { c.dialTimeout = d })
}

// WithMaxBackoff sets the longest delay between two attempts to connect; the default is 10 s. The
// delays grow from 10 ms, each drawn at random from 0 to its bound. Not more than 0 is an error.
func WithMaxBackoff(d time.Duration) WriterOption {
	return writerOption(func(c *writerConfig) { c.maxBackoff = d })
}

// WithWriteBufferSize sets the kernel's send buffer in bytes (SO_SNDBUF, socket(7)); by default, and
// for 0, the system's stays, which is the fastest on Linux. It also bounds what can be lost when a
// reader is killed. Leave it alone unless you have measured. More than 1 GiB is an error.
func WithWriteBufferSize(bytes uint32) WriterOption {
	return writerOption(func(c *writerConfig) { c.writeBufferSize = bytes })
}

// WithWriterErrorCallback sets who is told of errors that no caller gets; by default nobody.
func WithWriterErrorCallback(callback ErrorCallback) WriterOption {
	return writerOption(func(c *writerConfig) { c.onError = callback })
}

// WithOverflow sets what happens when the queue is full; the default is OverflowRefuse for a Writer, and
// OverflowBlock for a Conn. An unknown policy is an error.
func WithOverflow(policy OverflowPolicy) Option {
	return sendOption("WithOverflow", func(c *sharedConfig) { c.overflow, c.overflowSet = policy, true })
}

// WithUndelivered sets who gets the messages that Stop had to leave, and those that were set aside
// because the reader refuses them. data is valid until the callback returns.
func WithUndelivered(callback func(data []byte)) WriterOption {
	return writerOption(func(c *writerConfig) { c.undelivered = callback })
}

// WithAcknowledgements keeps each message in the queue until the reader's handler has returned for it,
// and sends it again after a lost connection, so that neither a broken connection nor a killed reader costs
// a message. Messages that are not acknowledged yet count against the bounds of the queue, and are not
// dropped by OverflowDropOldest or WithMaxAge once they were sent. A reader that does not know
// acknowledgements gets nothing, and ErrAcksUnsupported is reported.
func WithAcknowledgements() WriterOption {
	return writerOption(func(c *writerConfig) { c.acknowledgements = true })
}

// WithDialer sets how to connect, instead of by the address, which then only names the peer in
// errors. The context ends after WithDialTimeout, or when the Writer is stopped. A wrapper around a
// socket costs the vectored write: one system call a chunk becomes one for each. It should have a CloseWrite method as
// *net.TCPConn has: without one, what lies in a kernel when Stop closes the connection may be lost if the reader
// says goodbye in that moment.
func WithDialer(dial func(ctx context.Context) (net.Conn, error)) WriterOption {
	return writerOption(func(c *writerConfig) { c.dialer = dial })
}

// WithMaxAge drops messages that have waited longer in the queue, to within 1 ms or 1/64 of it,
// counted as expired, whatever the Writer is waiting for. The default, 0, keeps them for ever. A negative one is an
// error.
func WithMaxAge(d time.Duration) WriterOption {
	return writerOption(func(c *writerConfig) { c.maxAge = d })
}

// WithStateCallback sets who is told when the connection changes: connecting, connected, lost,
// stopped, in order, with the cause of a loss. It is called by the goroutine that writes, so it should
// return soon; it may call Stop with a context that ends.
func WithStateCallback(callback func(state State, cause error)) WriterOption {
	return writerOption(func(c *writerConfig) { c.onState = callback })
}

// An OverflowPolicy says what WriteMessage does when the queue is at one of its bounds.
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
