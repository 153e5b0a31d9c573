// SPDX-License-Identifier: Apache-2.0

// Package seam is what the packages of this module need of each other and users do not: package
// duplex of the root's Link, Listener and Conn, and package rpc of duplex's Client, Server and Session.
//
// A function that begins with Of takes a value of a public type and returns its interface here. The
// package of that type sets the function when it is initialized, because this package can import
// neither. A caller asks once for each value, after its constructor, and keeps the interface.
package seam

import "context"

// Set by the root package. Each panics for a value of another type.
var (
	OfLink     func(link any) Link         // Of a *udsipc.Link.
	OfListener func(listener any) Listener // Of a *udsipc.Listener.
	OfConn     func(conn any) Conn         // Of a *udsipc.Conn.
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

	// SendControl is Send for a message that ends or frees something at the peer of the present
	// connection. The limits of the queue do not apply to it, so it neither waits nor is refused
	// before Stop. Its caller limits how many there are. If the connection is lost and nothing else
	// is queued, the message is dropped.
	SendControl(data []byte) (seq uint64, err error)

	// SendUnbounded is Send for a message that the limits of the queue do not apply to. Its caller
	// limits how many there are.
	SendUnbounded(data []byte) (seq uint64, err error)

	// SentSeq returns the sequence number of the last message that a connection has taken to its last
	// byte, or that was dropped; all before it were as well. It does not change between the end of a
	// connection and the return of the callbacks for it, unless OverflowDropOldest makes room meanwhile.
	SentSeq() uint64

	// MaxMessageSize returns the largest message that this side sends and takes (WithMaxMessageSize).
	MaxMessageSize() uint64

	// Overflow returns the udsipc.OverflowPolicy of the queue.
	Overflow() int

	// OnDisconnect sets a function that is called when a connection has ended, before the one of
	// WithStateCallback. It must be called before Start.
	OnDisconnect(callback func())

	// OnTooLarge sets a function that is called for each received message over WithMaxMessageSize.
	// Such a message is skipped and reported. OnTooLarge must be called before Start.
	OnTooLarge(callback func(e *TooLarge))

	// Report hands an error to WithWriterErrorCallback.
	Report(op string, err error)
}

// A Listener is a udsipc.Listener.
type Listener interface {
	// Shutdown stops listening and removes the socket file. Accept then returns the connections that
	// were made before, and net.ErrClosed behind the last; the address is free then. Call Close after
	// that. Shutdown waits for nothing, so a callback may call it.
	Shutdown() error

	// Overflow returns the udsipc.OverflowPolicy of the queue of each Conn.
	Overflow() int

	// Report hands an error about a peer (Peer.String) to WithReaderErrorCallback.
	Report(op, peer string, err error)
}

// A Conn is a udsipc.Conn.
type Conn interface {
	// WriteControl is WriteMessage for a message that ends or frees something at the peer. The limits
	// of the queue do not apply to it, so it neither waits nor is refused before the end of the
	// connection. Its caller limits how many there are.
	WriteControl(data []byte) error

	// Room returns nil if the queue is below its limits, and otherwise a channel that is closed when
	// there is room again, or the connection has ended.
	Room() <-chan struct{}

	// MaxMessageSize returns the largest message that this side sends and takes (WithMaxMessageSize).
	MaxMessageSize() uint64

	// KeepOpen sets a function that is called, by the goroutine that reads, before the connection ends
	// for inactivity (WithInactivityTimeout). If it returns true, the connection goes on. The
	// connection also goes on if something is queued, or was since the last call. KeepOpen must be
	// called before the first ReadMessage.
	KeepOpen(busy func() bool)

	// ReturnReadMemory returns what reading has reserved of WithMaxReadMemory, for a caller that reads
	// nothing for a while. It returns how many bytes were read and not handed over yet. The last
	// message is not valid any more.
	ReturnReadMemory() (kept int)
}

// A Server is a duplex.Server, and S a *duplex.ServerConn.
type Server[S any] interface {
	// OnTooLarge sets a function that is called for each received message over WithMaxMessageSize.
	// Such a message is skipped and reported. OnTooLarge must be called before Start.
	OnTooLarge(callback func(session S, e *TooLarge))

	// OnStop sets a function that is called for each session when the Server stops, for a protocol with
	// a goodbye: the function sends it, and must not wait. The session goes on until the client's
	// answer (Session.Finish), or the end of its connection. If a client sends nothing for a second,
	// or has not answered after ten, what it sends from then on is refused, as without OnStop. OnStop
	// must be called before Start.
	OnStop(callback func(session S))

	// Overflow returns the udsipc.OverflowPolicy of the queue of each session.
	Overflow() int

	// Report hands an error about a peer (Peer.String) to WithReaderErrorCallback.
	Report(op, peer string, err error)
}

// A Session is a duplex.ServerConn.
type Session interface {
	// SendEncoded is Send for a message in its wire format, type and data; the caller may reuse it at
	// once.
	SendEncoded(message []byte) error

	// TrySendEncoded is SendEncoded that never waits: it returns ErrBufferFull if the queue is full.
	TrySendEncoded(message []byte) error

	// SendControl is SendEncoded for a message that ends or frees something at the client
	// (Conn.WriteControl).
	SendControl(message []byte) error

	// Room is that of the Conn.
	Room() <-chan struct{}

	// MaxMessageSize returns the largest message that this side sends and takes, its type included.
	MaxMessageSize() uint64

	// Hold keeps the Server from closing the connection when it stops, until Release was called as
	// often: for a handler that returns before it has answered. A session that is held does not end
	// for inactivity either. Hold must be called by a handler.
	Hold()

	// Release undoes a Hold.
	Release()

	// PauseReading has the session read nothing more until ready is closed, and reserve no read memory
	// meanwhile. It must be called by a handler, and takes effect when that has returned.
	PauseReading(ready <-chan struct{})

	// ReceiveContext returns a context that ends when nothing more comes from the client: with the
	// session, or before it when the Server stops and lets handlers finish.
	ReceiveContext() context.Context

	// Finish says that the client begins nothing more on this session (Server.OnStop). When every Hold
	// is released, what is queued is sent and the session ends; until then reading goes on.
	Finish()
}

// A TooLarge is a udsipc.TooLargeError.
type TooLarge struct {
	Size, Limit uint64
	Head        []byte // Its first bytes, up to 32.
}
