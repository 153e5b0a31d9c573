// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what can be set of a Reader alone.

import (
	"io/fs"
	"net"
	"time"
)

// WithInactivityTimeout ends connections on which nothing came for so long; the default is 10 s, and 0
// is never. Nothing is lost by it: what a writer sends at that very moment is handled or sent again. A Conn for whose peer
// something is queued, or was since the last time, goes on, and so does a session with calls under way.
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
// default is 64 MiB. Each connection may have 16 KiB beyond that, so small messages never wait. One
// that needs more waits for its turn: users (Credentials, or the key of a certificate) in turn, and of one user who came
// first. While somebody waits, a connection gives back what it has after each message, and is ended if its peer brings
// nothing for 2 s of a message that it has begun, or, without WithMessageTimeout, not the whole message within 30 s. One
// connection at a time may exceed the bound by its message. 0 is an error.
func WithReadMemory(bytes uint64) ReaderOption {
	return readerOption(func(c *readerConfig) { c.readMemory = bytes })
}

// WithSendMemory bounds what is queued for all peers of a Listener together, in bytes; the default is 128 MiB, or twice what one
// queue may hold if that is more (WithMaxBufferedBytes). Each connection may have 64 KiB beyond that, so small messages
// never wait for other peers. One connection may have half of it. When all of it is used, another may still have a
// sixteenth, or with more connections as many parts, and one message if it has nothing else queued, until twice the limit is
// reached; a message alone always passes. What is beyond is treated as by a full queue (WithOverflow). A Reader refuses this
// option; 0 is an error.
func WithSendMemory(bytes uint64) ReaderOption {
	return readerOption(func(c *readerConfig) { c.sendMemory, c.sendMemorySet, c.sending = bytes, true, "WithSendMemory" })
}

// WithMaxRedeliveries sets how often a message of an acknowledged connection is handed to the handler
// again after the handler returned an error or panicked; the default is 3, after 10, 40 and 160 ms.
// The messages behind it wait. When none succeeds, the message goes to WithDeadLetter and counts as
// handled. A negative number is an error. Without acknowledgements a message is handed over once.
func WithMaxRedeliveries(n int) ReaderOption {
	return readerOption(func(c *readerConfig) { c.maxRedeliveries = n })
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
// Connecting takes the permission to write (unix(7)). A socket that systemd passed keeps its own, and Windows has
// none. Anything but permission bits is an error, and so is an address that is no file (@name, tcp://HOST:PORT), or
// WithListener: there everybody on the machine may connect whom WithAuthorizer or WithTLS lets in.
func WithSocketMode(mode fs.FileMode) ReaderOption {
	return readerOption(func(c *readerConfig) { c.socketMode, c.socketModeSet = mode, true })
}

// WithSocketOwner sets the owner of the socket file; -1, the default, leaves an id as it is. To give
// a file away takes privileges (chown(2)). As with WithSocketMode, an address that is no file is an error.
func WithSocketOwner(uid, gid int) ReaderOption {
	return readerOption(func(c *readerConfig) { c.socketUID, c.socketGID = uid, gid })
}

// WithDeadLetter sets who gets the messages that the handler failed for too often, with its last
// error. d is valid until the callback returns; the message is acknowledged after that. It is called
// from the goroutines of the connections, so at once from several.
func WithDeadLetter(callback func(d *Delivery, err error)) ReaderOption {
	return readerOption(func(c *readerConfig) { c.deadLetter = callback })
}
