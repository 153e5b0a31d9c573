// SPDX-License-Identifier: Apache-2.0

// Package rpc calls named functions of another process on the same machine. Any number of calls
// share one connection. It builds on package duplex.
//
//	server, err := rpc.NewServer("/run/app.sock")
//	server.Handle("greet", func(ctx context.Context, name []byte) ([]byte, error) {
//		return append([]byte("hello, "), name...), nil
//	})
//	client, err := rpc.NewClient("/run/app.sock")
//	response, err := client.Call(ctx, "greet", []byte("world"))
//
// Requests and responses are bytes; package codec encodes values. Every error of a call is an
// *Error with a Code. Cancellation and deadlines reach the handler's context. PeerFromContext
// returns the identity of the caller, as the kernel reports it.
//
// A call waits while the client is disconnected, until its context ends. After a disconnect, calls
// that were not sent wait for the next connection. The others fail with CodeConnectionLost, because
// their outcome is unknown; those of CallIdempotent are sent again.
//
// A stopping server sends its clients a goodbye. It completes the calls that were sent to it, over
// every transport, and new calls wait for the next connection. A client that does not support the
// goodbye (docs/PROTOCOL.md) is given one second. Then the server completes the calls that it has
// received: on a Unix socket on Linux, all that were sent.
package rpc
