// SPDX-License-Identifier: Apache-2.0

// Package duplex exchanges typed messages, in both directions, between one [Server] and many
// [Client]s.
//
//	echo := func(ctx context.Context, s *duplex.ServerConn, m duplex.Message) error {
//		return s.Send(duplex.Message{Type: m.Type, Data: m.Data})
//	}
//	server, err := duplex.NewServer("/run/app.sock", echo)
//	client, err := duplex.NewClient("/run/app.sock")
//
// Addresses and options are those of package udsipc. A Server takes the options for listening,
// limits and authorization, a Client those for connecting; both take the limits of the send queue.
//
// Each connection has a bounded send queue, so a slow peer blocks nobody. If it is full, Send
// returns ErrBufferFull, unless udsipc.WithOverflow sets another policy.
//
// A Client reconnects, and queues messages meanwhile. The messages of one connection arrive in
// order. Messages in the kernel at a disconnect may be unread: a stopping server reads them (Unix
// sockets on Linux), a killed one does not. Package rpc reports the outcome of each call.
//
// On the wire, a message is one frame of package udsipc: the type as an unsigned varint, then the
// data.
package duplex
