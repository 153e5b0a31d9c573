// SPDX-License-Identifier: Apache-2.0

// Package seam has interfaces that the packages of this module need from each other, but users do
// not. Package duplex needs them from Link, Listener and Conn of the root. Package rpc needs them
// from Client, Server and ServerConn of duplex. Package spool needs those of a Writer.
//
// A function whose name begins with Of takes a value of a public type and returns its interface
// here. The package of that type sets the function at initialization, because this package can
// import neither. A caller calls it once after the constructor of the value, and keeps the
// interface.
package seam

import "context"

// Set by the root package. Each panics for a value of another type.
var (
	OfLink     func(link any) Link         // Of a *udsipc.Link.
	OfListener func(listener any) Listener // Of a *udsipc.Listener.
	OfConn     func(conn any) Conn         // Of a *udsipc.Conn.
	OfWriter   func(writer any) Writer     // Of a *udsipc.Writer.

	// EndOf returns why a context has ended: its cause, which matches its error as well.
	EndOf func(ctx context.Context) error

	// NewLineWriter returns a *udsipc.LineWriter that calls send for each line up to a limit.
	NewLineWriter func(send func(message []byte) error, limit uint64) any

	NewBuffer func(size int) Buffer // Returns a Buffer of at least size bytes, with one holder.
)

// Set by package duplex. Each panics for a value of another type.
var (
	OfClient  func(client any) Link     // Of a *duplex.Client: its Link, which sends encoded messages.
	OfServer  func(server any) any      // Of a *duplex.Server: a Server[*duplex.ServerConn].
	OfSession func(session any) Session // Of a *duplex.ServerConn.
)

// A Link is a udsipc.Link. Its messages have sequence numbers, which count from 1 over all connections.
type Link interface {
	// Send is WriteMessage; it also returns the sequence number of the message.
	Send(data []byte) (seq uint64, err error)

	// SendContext is Send, but with udsipc.OverflowBlock it waits for space only until ctx ends. Then the
	// error matches udsipc.ErrBufferFull.
	SendContext(ctx context.Context, data []byte) (seq uint64, err error)

	// EnqueueBuffer is Send for the message b.Bytes()[from:to], but never waits, and does not
	// write. The 32 bytes before the message are not kept. b belongs to the queue unless there is an
	// error; that of a full queue matches udsipc.ErrBufferFull. If idle is true, the caller must
	// call WriteQueued.
	EnqueueBuffer(b Buffer, from, to int) (idle bool, err error)

	// WriteQueued writes the queued messages while the kernel accepts them at once.
	WriteQueued()

	// SendControl is Send for a message that ends or releases something at the peer of the current
	// connection. The limits of the queue do not apply: it never waits, and is not refused before
	// Stop. The caller limits the number of such messages. If the connection is lost and nothing
	// else is queued, the message is dropped.
	SendControl(data []byte) (seq uint64, err error)

	// SendUnbounded is Send for a message to which the limits of the queue do not apply. The caller
	// limits the number of such messages.
	SendUnbounded(data []byte) (seq uint64, err error)

	// KeepMessage returns the memory of the message that is being handled, and makes the caller one of
	// its holders: the message stays valid until the caller releases it. It returns nil if that is not
	// possible. Only the handler of received messages may call it, before it returns.
	KeepMessage() Buffer

	// SentSeq returns the sequence number up to which every message was dropped or written to a
	// connection to the last byte. It does not change between the end of a connection and the
	// return of its callbacks, unless OverflowDropOldest makes room meanwhile.
	SentSeq() uint64

	// MaxMessageSize returns the largest message that this side sends and accepts (WithMaxMessageSize).
	MaxMessageSize() uint64

	// Overflow returns the udsipc.OverflowPolicy of the queue.
	Overflow() int

	// CloseContext returns a context that ends after WithCloseTimeout, for a Close that calls Stop.
	CloseContext() (context.Context, context.CancelFunc)

	// WaitAttempt is WaitConnected that returns an error as soon as an attempt to connect has failed
	// since the last connection, or if the Link is not started. It matches udsipc.ErrNotConnected and
	// the error of that attempt, or udsipc.ErrNotStarted.
	WaitAttempt(ctx context.Context) error

	// OnDisconnect sets a function that is called after a connection has ended, before the callback
	// of WithStateCallback. It must be called before Start.
	OnDisconnect(callback func())

	// OnTooLarge sets a function that is called for each received message over WithMaxMessageSize.
	// Such a message is skipped and reported. OnTooLarge must be called before Start.
	OnTooLarge(callback func(e *TooLarge))

	// PublishAs tells what is published of a Link with udsipc.WithPublishedMetrics: whose metrics they
	// are, what returns them, and which are no counters beside those of a Link. It must be called before
	// Start.
	PublishAs(kind string, snapshot func() any, gauges ...string)

	// Report passes an error to the callback of WithWriterErrorCallback.
	Report(op string, err error)

	// WatchStop reports, until ended is called, that a stop waits without a deadline. what returns for what.
	WatchStop(ctx context.Context, what func() string) (ended func())

	// Why returns why there is no connection: an error that matches udsipc.ErrNotConnected, and
	// udsipc.ErrNotStarted or the last error. It returns nil if there is one.
	Why() error

	// NoEmptyMessages tells that no message of the peer is empty. An empty one is the goodbye of a
	// server that refuses this side (Conn.Refuse), and ends the connection. NoEmptyMessages must be
	// called before Start.
	NoEmptyMessages()
}

// A Buffer is pooled memory with one or more holders, a *buffers.Buffer.
type Buffer interface {
	// Bytes returns the whole memory.
	Bytes() []byte

	// Release removes a holder. The last one returns the memory to its pool.
	Release()
}

// A Listener is a udsipc.Listener.
type Listener interface {
	// Shutdown stops listening and removes the socket file; the address is then free. Accept
	// returns the connections that were made before, and then net.ErrClosed. Call End after that.
	// Shutdown does not wait, so a callback may call it.
	Shutdown() error

	// TellRejected tells that no message of a client is empty. The listener then tells clients that it
	// rejects why (Link.NoEmptyMessages). TellRejected must be called before Start.
	TellRejected()

	// PublishAs tells what is published of a Listener with udsipc.WithPublishedMetrics: whose metrics
	// they are, what returns them, and which are no counters beside those of a Listener. It must be called
	// before Start.
	PublishAs(kind string, snapshot func() any, gauges ...string)

	// Overflow returns the udsipc.OverflowPolicy of the queue of each Conn.
	Overflow() int

	// CloseContext returns a context that ends after WithCloseTimeout, for a Close that calls Stop.
	CloseContext() (context.Context, context.CancelFunc)

	// WatchStop reports, until ended is called, that a stop waits without a deadline. what returns for what.
	WatchStop(ctx context.Context, what func() string) (ended func())

	// End is Close, but once ctx has ended it does not wait for a logger.
	End(ctx context.Context)

	// Report passes an error about a peer (Peer.String) to the callback of WithReaderErrorCallback.
	Report(op, peer string, err error)
}

// A Conn is a udsipc.Conn.
type Conn interface {
	// EnqueueBuffer is WriteMessage for the message b.Bytes()[from:to], but never waits, and does not
	// write. The 32 bytes before the message are not kept. b belongs to the queue unless there is an
	// error; that of a full queue matches udsipc.ErrBufferFull. If idle is true, the caller must
	// call WriteQueued.
	EnqueueBuffer(b Buffer, from, to int) (idle bool, err error)

	// WriteQueued writes the queued messages while the kernel accepts them at once.
	WriteQueued()

	// WriteControl is WriteMessage for a message that ends or releases something at the peer. The
	// limits of the queue do not apply: it never waits, and is not refused before the end of the
	// connection. The caller limits the number of such messages.
	WriteControl(data []byte) error

	// KeepMessage returns the memory of the last message of ReadMessage, and makes the caller one of
	// its holders: the message stays valid until the caller releases it. It returns nil if that is not
	// possible. It must be called before the next ReadMessage. The memory does not count for
	// WithMaxReadMemory once the connection reads into another buffer.
	KeepMessage() Buffer

	// Room returns nil if the queue is below its limits. Otherwise it returns a channel that is
	// closed when there is room, or the connection has ended.
	Room() <-chan struct{}

	// MaxMessageSize returns the largest message that this side sends and accepts (WithMaxMessageSize).
	MaxMessageSize() uint64

	// KeepOpen sets a function that the reading goroutine calls before the connection ends for
	// inactivity (WithInactivityTimeout). If it returns true, the connection goes on. It also goes
	// on if a message is queued, or was queued since the last call. KeepOpen must be called before
	// the first ReadMessage.
	KeepOpen(busy func() bool)

	// Refuse tells the peer that this side does not understand what it sends, in the words of a Reader:
	// a Writer counts its messages as possibly lost. The caller closes the connection next.
	Refuse()

	// ReturnReadMemory releases the read memory of the connection (WithMaxReadMemory), for a caller
	// that pauses reading. It returns the number of bytes that were read but not returned as
	// messages. The last message is no longer valid.
	ReturnReadMemory() (kept int)
}

// A Server is a duplex.Server, and S a *duplex.ServerConn.
type Server[S any] interface {
	// OnTooLarge sets a function that is called for each received message over WithMaxMessageSize.
	// Such a message is skipped and reported. OnTooLarge must be called before Start.
	OnTooLarge(callback func(session S, e *TooLarge))

	// OnStop sets a function that is called for each session when the Server stops. It is for a
	// protocol with a goodbye message: the function sends it, and must not wait. The session goes
	// on until the client's answer (Session.Finish) or the end of its connection. If a client sends
	// nothing for a second, or has not answered after ten, the server refuses what it sends from
	// then on, as without OnStop. OnStop must be called before Start.
	OnStop(callback func(session S))

	// PublishAs calls PublishAs of the Listener.
	PublishAs(kind string, snapshot func() any, gauges ...string)

	// Overflow returns the udsipc.OverflowPolicy of the queue of each session.
	Overflow() int

	// Report passes an error about a peer (Peer.String) to the callback of WithReaderErrorCallback.
	Report(op, peer string, err error)
}

// A Session is a duplex.ServerConn.
type Session interface {
	// SendEncoded is Send for an encoded message: type and data. The caller may reuse message after
	// the call.
	SendEncoded(message []byte) error

	// TrySendEncoded is SendEncoded that never waits. It returns ErrBufferFull if the queue is
	// full.
	TrySendEncoded(message []byte) error

	// EnqueueBuffer is SendEncoded for the message b.Bytes()[from:to], but never waits, and does not
	// write. The 32 bytes before the message are not kept. b belongs to the queue unless there is an
	// error; that of a full queue matches udsipc.ErrBufferFull. If idle is true, the caller must
	// call WriteQueued.
	EnqueueBuffer(b Buffer, from, to int) (idle bool, err error)

	// WriteQueued writes the queued messages while the kernel accepts them at once.
	WriteQueued()

	// SendControl is SendEncoded for a message that ends or releases something at the client
	// (Conn.WriteControl).
	SendControl(message []byte) error

	// KeepMessage calls KeepMessage of the Conn. Only handlers may call it, before they return.
	KeepMessage() Buffer

	// Room calls Room of the Conn.
	Room() <-chan struct{}

	// MaxMessageSize returns the largest message that this side sends and accepts, its type included.
	MaxMessageSize() uint64

	// Hold prevents a stopping Server from closing the connection until Release was called as often
	// as Hold. It is for a handler that returns before its response is sent. A held session does
	// not end for inactivity either. Only handlers may call Hold.
	Hold()

	// Release undoes a Hold.
	Release()

	// PauseReading stops reading from the session until ready is closed. Meanwhile the session
	// reserves no read memory. Only handlers may call it; it takes effect when the handler has
	// returned.
	PauseReading(ready <-chan struct{})

	// ReceiveContext returns a context that ends when nothing more comes from the client: at the
	// end of the session, or earlier when the Server stops and lets handlers finish.
	ReceiveContext() context.Context

	// Finish reports to the Server that the client begins nothing more on this session
	// (Server.OnStop). When every Hold is released, the queued messages are sent and the session
	// ends. Until then reading goes on.
	Finish()
}

// A TooLarge is a udsipc.TooLargeError.
type TooLarge struct {
	Size, Limit uint64
	Head        []byte // Its first bytes, up to 32.
}
