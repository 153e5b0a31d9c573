// SPDX-License-Identifier: Apache-2.0

// Package codec encodes values as the bytes that packages udsipc and rpc carry, and decodes them.
//
//	events := codec.JSON[Event]()
//	reader, err := udsipc.NewReader(codec.Handler(events, func(e Event) error { … }), "/run/app.sock")
//	writer := codec.NewWriter(w, events)
//	err = writer.Write(Event{Name: "start"})
//
// NewReader and Messages read the values of a udsipc.Conn.
//
// JSON, Gob (for trusted peers) and Raw are ready-made. Of makes a codec from two functions:
// protobuf (contrib/protobuf) and others need no more. A codec has no state and is safe for
// concurrent use.
package codec
