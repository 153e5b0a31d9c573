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
// Requests and responses are bytes. NewMethod declares a method of values once, for both programs,
// and NewStreamMethod a stream of values; package codec has their encodings:
//
//	var Stat = rpc.NewMethod("stat", codec.JSON[StatRequest](), codec.JSON[StatResponse]())
//
//	Stat.Handle(server, func(ctx context.Context, q StatRequest) (StatResponse, error) { … })
//	response, err := Stat.Call(ctx, client, StatRequest{Path: "/etc"})
//
// Every error of a call is an *Error with a Code; CodeOf has the table of the errors of other packages
// that stand for one. Cancellation and deadlines reach the handler's context. PeerFromContext returns
// the identity of the caller, as the kernel reports it.
//
// Interceptors wrap the calls of a client and the handlers of a server (Client.Use, Server.Use).
// WithMetadata sends values beside a request, such as the context of a trace.
//
// A server does not call its clients. A client that can be called opens a stream and serves what comes
// on it (the last example of StreamMethod).
//
// A call waits while the client is disconnected, until its context ends; SetFailFast and WithFailFast
// have it fail instead. After a disconnect, calls that were not sent wait for the next connection. The
// others fail with CodeConnectionLost, because their outcome is unknown; those of CallIdempotent are
// sent again.
//
// A stopping server sends its clients a goodbye. It completes the calls that were sent to it, over
// every transport, and new calls wait for the next connection. A client that does not support the
// goodbye (docs/PROTOCOL.md) is given one second. Then the server completes the calls that it has
// received: on a Unix socket on Linux, all that were sent.
package rpc
