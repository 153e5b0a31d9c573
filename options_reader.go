// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what can be set of a Reader alone.

import (
	"io/fs"
	"net"
	"time"
)

// WithInactivityTimeout sets how long a connection may bring no message before it is closed. The
// default is 10 s; 0 disables it. Nothing is lost: a message that is sent at that moment is
// handled, or sent again. A Conn with queued messages, or with messages queued since the last
// check, stays open; so does a connection of package rpc with calls in flight. A negative duration
// is an error.
func WithInactivityTimeout(d time.Duration) ReaderOption {
	return readerOption(func(c *readerConfig) { c.inactivityTimeout = d })
}

// WithReadBufferSize sets the size of a read in bytes, rounded up to a power of two. The default,
// also for 0, is 256 KiB. A connection holds a pooled buffer of that size only while it has bytes to
// handle. More than 1 GiB is an error.
func WithReadBufferSize(bytes uint32) ReaderOption {
	return readerOption(func(c *readerConfig) { c.readBufferSize = bytes })
}

// WithReaderErrorCallback sets the function that is called for errors that no caller receives. By
// default there is none, and they are logged (WithLogger). It runs on the goroutines of the
// connections; calls are concurrent.
func WithReaderErrorCallback(callback ErrorCallback) ReaderOption {
	return readerOption(func(c *readerConfig) { c.onError = callback })
}

// WithMaxAcceptErrors sets how many times in a row accepting may fail before the Reader ends and
// Done is closed. The default is 10. A lack of descriptors or memory does not count. A negative
// number is an error.
func WithMaxAcceptErrors(n int) ReaderOption {
	return readerOption(func(c *readerConfig) { c.maxAcceptErrors = n })
}

// WithListener makes the Reader accept from l, and close it at Stop. The Reader then uses neither
// the address nor systemd; the address only names the Reader in errors.
func WithListener(l net.Listener) ReaderOption {
	return readerOption(func(c *readerConfig) { c.listener, c.listenerSet = l, true })
}

// WithMaxConnections sets the largest number of open connections. The default is 1,024. A further
// connection is rejected with ErrTooManyConnections, after the messages that it has already sent
// were handled. Less than 1 is an error.
func WithMaxConnections(n int) ReaderOption {
	return readerOption(func(c *readerConfig) { c.maxConnections = n })
}

// WithMaxConnectionsPerUser sets the largest number of connections of one user of this machine,
// identified by Credentials. By default, and for 0, it is that of WithMaxConnections. Set it if
// several users may connect. A further connection is rejected as with WithMaxConnections. A
// negative number is an error.
func WithMaxConnectionsPerUser(n int) ReaderOption {
	return readerOption(func(c *readerConfig) { c.maxConnectionsPerUser = n })
}

// WithFirstMessageTimeout sets how long after the connect the first message may be incomplete
// before the connection is closed. The default is 10 s; 0 disables it. Nothing is lost. A negative
// duration is an error.
func WithFirstMessageTimeout(d time.Duration) ReaderOption {
	return readerOption(func(c *readerConfig) { c.firstMessageTimeout = d })
}

// WithMessageTimeout sets how long a message may take from its first byte to its last before the
// connection is closed. The default is 30 s; 0 disables it. Nothing is lost. A negative duration is
// an error.
func WithMessageTimeout(d time.Duration) ReaderOption {
	return readerOption(func(c *readerConfig) { c.messageTimeout = d })
}

// WithMaxReadMemory limits the memory of all read buffers, in bytes. The default is 64 MiB. A buffer
// of up to 16 KiB is not counted: small messages never wait. Other connections wait for memory:
// users (Credentials, or the key of a certificate) in turn, and the connections of one user in
// order. One connection at a time may exceed the limit by its message, so that two cannot block
// each other. 0 is an error.
//
// While a connection waits, each other one returns its memory after each message. A connection with
// an incomplete message is closed if it receives nothing for 2 s, or, if WithMessageTimeout is 0,
// if the message is incomplete after 30 s.
func WithMaxReadMemory(bytes uint64) ReaderOption {
	return readerOption(func(c *readerConfig) { c.maxReadMemory = bytes })
}

// WithMaxSendMemory limits the queues of all peers of a Listener together, in bytes. The default is
// 128 MiB, or twice the limit of one queue (WithMaxBufferedBytes) if that is more. Up to 64 KiB per
// connection are not counted: small messages never wait for other peers. A Reader rejects this
// option; 0 is an error.
//
// One connection may use half of the limit. At the limit, another connection may use a sixteenth,
// or less with more than 16 connections, up to twice the limit. A connection without queued
// messages may always queue one, also up to twice the limit, or alone. Beyond that its queue counts
// as full (WithOverflow).
func WithMaxSendMemory(bytes uint64) ReaderOption {
	return readerOption(func(c *readerConfig) {
		c.maxSendMemory, c.maxSendMemorySet, c.sendOnlyOption = bytes, true, "WithMaxSendMemory"
	})
}

// WithMaxRedeliveries sets how often a message of an acknowledged connection is redelivered after
// its handler returned an error or panicked. The default is 3, after 10, 40 and 160 ms. Later
// messages of the connection wait. After the last failure the message goes to WithDeadLetter and
// counts as handled. A negative number is an error. In plain mode a message is delivered once.
func WithMaxRedeliveries(n int) ReaderOption {
	return readerOption(func(c *readerConfig) { c.maxRedeliveries = n })
}

// WithMaxWriterStates sets how many writer states a Reader keeps. The default is 4,096 (about 300 bytes
// each). States of connected writers count and stay; of the others, the one that disconnected first
// is evicted. A writer without state retransmits its unacknowledged messages, with Redelivered set.
// Less than 1 is an error.
func WithMaxWriterStates(n int) ReaderOption {
	return readerOption(func(c *readerConfig) { c.maxWriterStates = n })
}

// WithWriterRetention sets how long a Reader keeps the state of a disconnected writer. The default is
// 1 h. 0 or less is an error.
func WithWriterRetention(d time.Duration) ReaderOption {
	return readerOption(func(c *readerConfig) { c.writerRetention = d })
}

// WithSocketMode sets the permissions of the socket file, regardless of the umask. The default is
// 0600. Connecting needs write permission (unix(7)). A socket that systemd passed keeps its own
// mode; Windows has none.
//
// A mode with other than permission bits is an error. So is a mode for an address without a file
// (@name, tcp://HOST:PORT), or with WithListener: any user can connect there, unless WithAuthorizer
// or WithTLS rejects the peer.
func WithSocketMode(mode fs.FileMode) ReaderOption {
	return readerOption(func(c *readerConfig) { c.socketMode, c.socketModeSet = mode, true })
}

// WithSocketOwner sets the owner of the socket file; -1, the default, leaves an ID unchanged.
// Setting another owner needs privileges (chown(2)). It is an error for an address without a file,
// as WithSocketMode is.
func WithSocketOwner(uid, gid int) ReaderOption {
	return readerOption(func(c *readerConfig) { c.socketUID, c.socketGID = uid, gid })
}

// WithDeadLetter sets a callback for messages that the Reader gives up after the redeliveries, with
// the last error of the handler. d is valid until the callback returns; then the message is
// acknowledged. It runs on the goroutines of the connections; calls are concurrent.
func WithDeadLetter(callback func(d *Delivery, err error)) ReaderOption {
	return readerOption(func(c *readerConfig) { c.deadLetter = callback })
}
