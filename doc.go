// SPDX-License-Identifier: Apache-2.0

// Package udsipc streams messages from many processes to one on the same machine, over Unix sockets or
// TCP, without a broker.
//
// # Model
//
// A [Writer] is part of each program that sends. WriteMessage copies the message into a bounded queue and
// returns. One goroutine drains the queue with large vectored writes, connects, reconnects, and resends
// what a broken connection did not take. A [Reader] is part of the program that receives. It listens on
// its own socket, or on one that systemd passed, and passes each message to a handler, from pooled buffers.
//
//	writer, err := udsipc.NewWriter("/run/app/collector.sock")
//	reader, err := udsipc.NewReader(func(data []byte) error { … }, "/run/app/collector.sock")
//
// [Reader.Run] starts a Reader, waits, and ends it gracefully; [Writer.Close] sends what is queued. Both are
// bounded by [WithCloseTimeout]. [NewBatchReader] passes messages in batches, for a database.
//
// An address is a path, unix:PATH, @name (an abstract Linux socket) or tcp://HOST:PORT.
//
// # Guarantees
//
// Every message for which WriteMessage returned nil is delivered, or counted as not delivered. Messages of
// one Writer arrive in order. Those of one connection are handled one after another, those of different
// connections concurrently.
//
// In plain mode a message counts as sent when the kernel has taken its last byte; in acknowledged mode
// ([WithAcknowledgements]), when the reader's handler has returned. The outcome of each event:
//
//	                    plain mode                                   acknowledged mode
//	connection cut      messages that the kernel had not             nothing is lost or repeated
//	                    completely taken are sent again; the
//	                    others are reported as a possible loss,
//	                    with an upper bound (PossibleLossError)
//	reader stopped      on a Unix socket nothing is lost, repeated   nothing is lost; a message is repeated
//	                    or reordered: the reader handles all         only if the connection broke at that
//	                    messages that the kernel had accepted        moment (Delivery.Redelivered)
//	reader killed       unread messages are lost, and reported as    nothing is lost; messages handled since
//	                    a possible loss; messages that it had read   the last acknowledgement are delivered
//	                    and not handled are lost                     again (Delivery.Redelivered)
//	writer stopped      Stop drains the queue; messages left when    the same, for unacknowledged messages
//	                    its context ends are returned
//	                    (WithUndelivered)
//	writer killed       messages that the kernel had taken are       the same
//	                    delivered; queued ones are lost
//	host failed         unhandled messages are lost                  the same
//
// Package spool has a Writer in acknowledged mode whose queue is on the disk: accepted messages survive a
// stop and a kill of the writer, and the failure of the host but for those of the last second, or all.
//
// A Reader keeps the states of 4,096 writers ([WithMaxWriterStates]), each for an hour after its last connection
// ([WithWriterRetention]). A writer without state retransmits its unacknowledged messages, with Redelivered set.
//
// # Errors
//
// Errors that no caller receives are logged with log/slog: that nobody listens, that messages may be lost, that
// a handler failed ([WithLogger]). An error callback takes them instead ([WithWriterErrorCallback],
// [WithReaderErrorCallback]); each is an [*OpError]. [Writer.Metrics] and [Reader.Metrics] count every message.
//
// # Trust
//
// A socket file has its final mode, 0600 by default, from its first moment on. [WithAuthorizer] accepts or
// rejects the peer, on either side. [WithTLS] works over every transport; plaintext beyond loopback is an
// error without [WithPlaintext]. A Reader limits the connections, the memory and the time of its peers
// (docs/SECURITY.md).
//
// # systemd
//
// A Reader supports socket activation, and sends readiness, status and keep-alive pings if the service asks
// for them. [Reader.HandOver] hands the listener and the connections to the next process, so that writers
// stay connected during a restart (docs/SYSTEMD.md).
//
// # Full-duplex connections
//
// [Dial] and [Listen] give a [Conn] with messages in both directions; a [Link] is a connection that
// reconnects. The packages duplex, rpc and codec build on them: typed messages, calls, and values instead
// of bytes.
//
// # Bytes
//
// WriteMessage never keeps the caller's slice. A handler's data is valid until it returns, and appending to
// it cannot change other data.
//
// # Wire format
//
// The wire format is a stream of frames: an unsigned varint (as in encoding/binary) with the length of the
// message in bytes, then the message. A length of 0 is an empty message. Any program that writes this is a
// writer. A session adds a handshake to each connection, and no byte per message. docs/PROTOCOL.md
// specifies both byte by byte, with test vectors.
package udsipc
