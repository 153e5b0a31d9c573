// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what a handler gets.

import (
	"context"

	"github.com/udsipc/udsipc/internal/receiver"
	"github.com/udsipc/udsipc/internal/wire"
)

// A MessageHandler handles one message. data is valid until it returns; copy it to keep it. A
// handler that returns an error must not change data, because a redelivery uses the same memory.
//
// An error, a panic, or the end of its goroutine (runtime.Goexit) is counted and reported, and the
// connection continues; in acknowledged mode the message is redelivered first
// (WithMaxRedeliveries). Handlers of different connections run concurrently, messages of one
// connection in order.
type MessageHandler func(data []byte) error

// A DeliveryHandler is a MessageHandler that also receives the origin of the message. ctx ends with
// a forced stop. d and its Data are valid until the handler returns. The handler may change the
// fields of d, but not the values that its Peer points to.
type DeliveryHandler func(ctx context.Context, d *Delivery) error

// A Delivery is a message and its origin.
type Delivery struct {
	Data        []byte
	Peer        Peer
	Writer      WriterID // Zero, unless the writer asks for acknowledgements.
	Seq         uint64   // The number of the message, from 1: of its writer, or else of its connection.
	Redelivered bool     // It may have been handled before: by an earlier reader, or by a handler that failed.
}

// A WriterID identifies a Writer on all of its connections.
type WriterID [16]byte

// String returns the ID in hexadecimal.
func (w WriterID) String() string { return wire.WriterID(w).String() }

// A deliverer is the sink of one connection: it makes Deliveries for a handler and for dead letters.
type deliverer struct {
	handler         DeliveryHandler
	deadLetter      func(d *Delivery, err error)
	known           Delivery // Peer and Writer are set.
	handlerDelivery Delivery // A copy, which the callback may change.
}

// newDeliverer returns the sink of a connection. Each of the callbacks may be nil.
func newDeliverer(peer Peer, handler DeliveryHandler, deadLetter func(d *Delivery, err error)) receiver.Sink {
	d := &deliverer{handler: handler, deadLetter: deadLetter, known: Delivery{Peer: peer}}
	s := receiver.Sink{Session: func(writer wire.WriterID) { d.known.Writer = WriterID(writer) }}
	if handler != nil {
		s.Message = d.message
	}
	if deadLetter != nil {
		s.DeadLetter = d.toDeadLetter
	}
	s.Add = d.addTo
	return s
}

func (d *deliverer) message(ctx context.Context, data []byte, seq uint64, redelivered bool) error {
	d.give(data, seq, redelivered)
	return d.handler(ctx, &d.handlerDelivery)
}

func (d *deliverer) toDeadLetter(data []byte, seq uint64, err error) {
	d.give(data, seq, true)
	d.deadLetter(&d.handlerDelivery, err)
}

func (d *deliverer) give(data []byte, seq uint64, redelivered bool) {
	d.handlerDelivery = d.known
	d.handlerDelivery.Data, d.handlerDelivery.Seq, d.handlerDelivery.Redelivered = data, seq, redelivered
}
