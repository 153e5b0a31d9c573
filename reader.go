// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the Reader: the face of a server (server.go), which does the work.

import (
	"context"
	"fmt"
	"net"
)

// A Reader accepts connections and hands their messages to a handler. It is made by NewReader or
// NewDeliveryReader, listens from Start on, and ends with Stop; it cannot be started again then. All
// methods may be called from any goroutine.
type Reader struct {
	server *server
	memory *budget // Of all read buffers together.
}

// NewReader returns a Reader that hands the messages that come to address to handler: a path,
// unix:PATH, @name (Linux) or tcp://HOST:PORT. Under systemd's socket activation it takes the socket
// that was passed instead. The error names the option or the part of the address that makes no sense.
func NewReader(handler MessageHandler, address string, opts ...ReaderOption) (*Reader, error) {
	if handler == nil {
		return nil, ErrHandlerNil
	}
	return newReader(handler, nil, address, opts)
}

// NewDeliveryReader is NewReader for a handler that wants to know where a message comes from.
func NewDeliveryReader(handler DeliveryHandler, address string, opts ...ReaderOption) (*Reader, error) {
	if handler == nil {
		return nil, ErrHandlerNil
	}
	return newReader(nil, handler, address, opts)
}

func newReader(message MessageHandler, deliver DeliveryHandler, address string, opts []ReaderOption) (*Reader, error) {
	cfg, err := newReaderConfig(address, opts)
	if err != nil {
		return nil, err
	}
	if cfg.sending != "" {
		return nil, fmt.Errorf("udsipc: %s is for whoever sends: a Writer or a Listener", cfg.sending)
	}
	memory := cfg.newMemory()
	config := cfg.server(memory)
	if message != nil {
		config.message = message
	}
	if deliver != nil || cfg.deadLetter != nil {
		config.open = func(from *peer) sink { return newDeliverer(publicPeer(from), deliver, cfg.deadLetter) }
	}
	return &Reader{server: newServer(config), memory: memory}, nil
}

// Start listens and returns. It may be called again, also after an error; after Stop it returns
// ErrStopped. ErrSocketInUse means that somebody listens there already, ErrInvalidSocketPath that
// what lies at the path is no socket.
func (r *Reader) Start() error { return public(r.server.start()) }

// Stop ends the Reader without losing a message. It refuses new connections, serves those that are
// waiting, keeps every peer from writing more, handles all that the kernel has accepted by then, and
// removes its socket. Where the kernel cannot refuse a peer's writes (anything but a Unix socket on
// Linux), it asks the peer to end, and waits a second for that.
//
// ctx bounds Stop alone: give it one of its own, because the one that told the program to end has ended.
// When ctx ends first, connections are closed and Stop returns at once with an error that says how
// many were still busy. Handlers that run are left behind, and none is called any more: what was read and is not
// handled comes again in a session. Otherwise it is reported and counted (Discarded), and the writer is told of it, unless a
// handler that does not return keeps that from happening. It may be called before Start,
// again, and from several goroutines. From inside a handler it can only end with ctx.
func (r *Reader) Stop(ctx context.Context) error { return public(r.server.stop(ctx)) }

// HandOver is Stop for a process that another one is to follow at once: under systemd, with
// FileDescriptorStoreMax= in the service (systemd.service(5)), the listener, unless systemd has made it, and the
// connections are left with systemd, and the Reader that the next process starts with the same name
// (WithSystemdName, or else the address) goes on with them. Writers keep their connections; nothing is
// lost, repeated or reordered, and with acknowledgements the next Reader knows all that this one knew.
//
// Each connection is read to the end of the message that it is in. One whose peer takes longer than a second for that,
// one with TLS, and one that the store has no room for, is ended as Stop does, and reported with OpHandOver. The
// others stay open here until systemd has shown that it keeps them all; if it does not, because there is no store or
// it is too small, they are ended as Stop does as well, and so without systemd at all: nothing is lost by trying.
//
// Call it only where a next process comes: what nobody takes is closed by systemd, and of plain writers that is
// a possible loss, which they report. If the name changes from one version to the next, nobody reads the connections
// any more until they are closed: PassedDescriptors lists them. RestartKillSignal= (systemd.kill(5)) tells a restart from
// a stop. FileDescriptorStoreMax= and LimitNOFILE= must have room for all connections and four more.
func (r *Reader) HandOver(ctx context.Context) error { return public(r.server.handOver(ctx)) }

// Addr returns the address that the Reader listens on, or nil before Start. For tcp://HOST:0 it has
// the port that the system chose.
func (r *Reader) Addr() net.Addr { return r.server.addr() }

// Done returns a channel that is closed when the Reader has ended: because of Stop, or because
// accepting failed for good; Err tells which.
func (r *Reader) Done() <-chan struct{} { return r.server.finished() }

// Err returns why the Reader ended by itself, or nil.
func (r *Reader) Err() error { return public(r.server.failure()) }
