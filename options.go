// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what can be set. An option only notes its value; config.go has the defaults and checks
// the values.

import (
	"context"
	"crypto/tls"
	"fmt"
	"io/fs"
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

func (o writerOption) applyWriter(c *writerConfig) { o(c) }
func (o readerOption) applyReader(c *readerConfig) { o(c) }
func (o bothOption) applyWriter(c *writerConfig)   { o(&c.sharedConfig) }
func (o bothOption) applyReader(c *readerConfig)   { o(&c.sharedConfig) }

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

// WithTLS has every connection speak TLS, over TCP and over Unix sockets alike. The configuration is not
// copied: it may not be changed, but its callbacks (GetCertificate, GetClientCertificate,
// GetConfigForClient) are asked at each connection, so certificates can be renewed. A Writer takes the
// ServerName from a TCP address if none is set. Both sides need it; nil is an error.
func WithTLS(config *tls.Config) Option {
	return bothOption(func(c *sharedConfig) { c.tls, c.tlsSet = config, true })
}

// WithPlaintext allows a TCP address that is not loopback without TLS, which is an error otherwise:
// everybody on the way may read the messages, and write others.
func WithPlaintext() Option {
	return bothOption(func(c *sharedConfig) { c.plaintext = true })
}

// WithHandshakeTimeout sets how long a TLS handshake may take; the default is 5 s. Not more than 0 is
// an error.
func WithHandshakeTimeout(d time.Duration) Option {
	return bothOption(func(c *sharedConfig) { c.handshakeTimeout = d })
}

// WithMaxBufferedWrites bounds the queue in messages; the default is 10,000. 0 is an error.
func WithMaxBufferedWrites(messages uint32) WriterOption {
	return writerOption(func(c *writerConfig) { c.maxBufferedWrites = uint64(messages) })
}

// WithMaxBufferedBytes bounds the queue in bytes, length prefixes included; the default is 64 MiB.
// A message that is larger by itself gets ErrMessageTooLarge. 0 is an error.
func WithMaxBufferedBytes(bytes uint64) WriterOption {
	return writerOption(func(c *writerConfig) { c.maxBufferedBytes = bytes })
}

// WithWriteTimeout sets how long one write may wait before ErrBackpressure is reported; the default
// is 1 s. The write then goes on: nothing is lost, and the connection stays. Not more than 0 is an error.
func WithWriteTimeout(d time.Duration) WriterOption {
	return writerOption(func(c *writerConfig) { c.writeTimeout = d })
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

// WithOverflow sets what happens when the queue is full; the default is OverflowRefuse. An unknown
// policy is an error.
func WithOverflow(policy OverflowPolicy) WriterOption {
	return writerOption(func(c *writerConfig) { c.overflow = policy })
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
// socket costs the vectored write: one system call a chunk becomes one for each.
func WithDialer(dial func(ctx context.Context) (net.Conn, error)) WriterOption {
	return writerOption(func(c *writerConfig) { c.dialer = dial })
}

// WithMaxAge drops messages that have waited longer in the queue, to within 1 ms or 1/64 of it,
// counted as expired. The default, 0, keeps them for ever. A negative one is an error.
func WithMaxAge(d time.Duration) WriterOption {
	return writerOption(func(c *writerConfig) { c.maxAge = d })
}

// WithStateCallback sets who is told when the connection changes: connecting, connected, lost,
// stopped, in order, with the cause of a loss. It is called by the goroutine that writes, so it should
// return soon; it may call Stop with a context that ends.
func WithStateCallback(callback func(state State, cause error)) WriterOption {
	return writerOption(func(c *writerConfig) { c.onState = callback })
}

// WithInactivityTimeout ends connections on which nothing came for so long; the default is 10 s, and 0
// is never. Nothing is lost by it: what a writer sends at that very moment is handled or sent again.
// A negative one is an error.
func WithInactivityTimeout(d time.Duration) ReaderOption {
	return readerOption(func(c *readerConfig) { c.inactivityTimeout = d })
}

// WithReadBufferSize sets how many bytes are read at once, into a pooled buffer that a connection
// holds while it has bytes to handle; the default is 256 KiB, rounded up to a power of two. 0, and
// more than 1 GiB, are errors.
func WithReadBufferSize(bytes uint32) ReaderOption {
	return readerOption(func(c *readerConfig) { c.readBufferSize = bytes })
}

// WithReaderErrorCallback sets who is told of errors that no caller gets; by default nobody. It is
// called from the goroutines of the connections, so at once from several.
func WithReaderErrorCallback(callback ErrorCallback) ReaderOption {
	return readerOption(func(c *readerConfig) { c.onError = callback })
}

// WithMaxAcceptErrors sets how many times in a row accepting may fail before the Reader gives up and
// Done is closed; the default is 10. To be out of descriptors or of memory never counts. A negative
// one is an error.
func WithMaxAcceptErrors(n int) ReaderOption {
	return readerOption(func(c *readerConfig) { c.maxAcceptErrors = n })
}

// WithListener makes the Reader accept from l, which it closes at Stop. Neither the address nor
// systemd is looked at then; the address still names the Reader in errors.
func WithListener(l net.Listener) ReaderOption {
	return readerOption(func(c *readerConfig) { c.listener, c.listenerSet = l, true })
}

// WithMaxConnections bounds the connections that are open at once; the default is 1,024. One more is
// refused with ErrTooManyConnections, after what it had sent by then has been handled. Less than 1 is
// an error.
func WithMaxConnections(n int) ReaderOption {
	return readerOption(func(c *readerConfig) { c.maxConnections = n })
}

// WithMaxConnectionsPerUser bounds the connections of one user of this machine, as the kernel names it
// (Credentials); by default, and for 0, as many as WithMaxConnections. Set it where several users may
// connect. One more is refused as one over WithMaxConnections is. A negative number is an error.
func WithMaxConnectionsPerUser(n int) ReaderOption {
	return readerOption(func(c *readerConfig) { c.maxConnectionsPerUser = n })
}

// WithFirstMessageTimeout ends connections whose first message is not there whole so long after they
// were made; the default is 10 s, and 0 is never. A negative one is an error. Nothing is lost by it.
func WithFirstMessageTimeout(d time.Duration) ReaderOption {
	return readerOption(func(c *readerConfig) { c.firstMessageTimeout = d })
}

// WithMessageTimeout ends connections that take longer from the first byte of a message to its last;
// the default is 30 s, and 0 is never. A negative one is an error. Nothing is lost by it.
func WithMessageTimeout(d time.Duration) ReaderOption {
	return readerOption(func(c *readerConfig) { c.messageTimeout = d })
}

// WithReadMemory bounds the memory of the read buffers of all connections together, in bytes; the
// default is 64 MiB. Each connection may have 16 KiB beyond that, so small messages never wait; one
// that needs more waits its turn, and one at a time may exceed the bound by its message. 0 is an error.
func WithReadMemory(bytes uint64) ReaderOption {
	return readerOption(func(c *readerConfig) { c.readMemory = bytes })
}

// WithMaxRedeliveries sets how often a message of an acknowledged connection is handed to the handler
// again after the handler returned an error or panicked; the default is 3, after 10, 40 and 160 ms.
// The messages behind it wait. When none succeeds, the message goes to WithDeadLetter and counts as
// handled. A negative number is an error. Without acknowledgements a message is handed over once.
func WithMaxRedeliveries(n int) ReaderOption {
	return readerOption(func(c *readerConfig) { c.maxRedeliveries = n })
}

// WithDeadLetter sets who gets the messages that the handler failed for too often, with its last
// error. d is valid until the callback returns; the message is acknowledged after that. It is called
// from the goroutines of the connections, so at once from several.
func WithDeadLetter(callback func(d *Delivery, err error)) ReaderOption {
	return readerOption(func(c *readerConfig) { c.deadLetter = callback })
}

// WithMaxWriters sets how many writers with acknowledgements a Reader remembers; the default is 4,096,
// some 300 bytes each. Those that are connected count and are always remembered; of the others the one whose
// last connection ended first is forgotten. What a forgotten writer was not told of comes again, marked
// Redelivered. Less than 1 is an error.
func WithMaxWriters(n int) ReaderOption {
	return readerOption(func(c *readerConfig) { c.maxWriters = n })
}

// WithWriterMemory sets for how long a writer with acknowledgements is remembered after its last
// connection; the default is 1 h. Not more than 0 is an error.
func WithWriterMemory(d time.Duration) ReaderOption {
	return readerOption(func(c *readerConfig) { c.writerMemory = d })
}

// WithSocketMode sets the permissions of the socket file, whatever the umask; the default is 0600.
// Connecting takes the permission to write (unix(7)). Anything but permission bits is an error.
func WithSocketMode(mode fs.FileMode) ReaderOption {
	return readerOption(func(c *readerConfig) { c.socketMode = mode })
}

// WithSocketOwner sets the owner of the socket file; -1, the default, leaves an id as it is. To give
// a file away takes privileges (chown(2)).
func WithSocketOwner(uid, gid int) ReaderOption {
	return readerOption(func(c *readerConfig) { c.socketUID, c.socketGID = uid, gid })
}

// WithSystemdName takes the socket that systemd passed under this name (FileDescriptorName=,
// systemd.socket(5)). A process that systemd did not activate uses the address.
func WithSystemdName(name string) ReaderOption {
	return readerOption(func(c *readerConfig) { c.systemdName = name })
}

// WithoutSystemd never takes a socket from systemd.
func WithoutSystemd() ReaderOption {
	return readerOption(func(c *readerConfig) { c.withoutSystemd = true })
}

// An OverflowPolicy says what WriteMessage does when the queue is at one of its bounds.
type OverflowPolicy int

// The policies of WithOverflow.
const (
	OverflowRefuse     OverflowPolicy = iota // Return ErrBufferFull at once; the default.
	OverflowBlock                            // Wait until there is room, or until Stop.
	OverflowDropOldest                       // Drop the oldest messages that are not being written.
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
