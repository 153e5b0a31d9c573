// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the Reader: the face of a receiver.Server, which does the work.

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/udsipc/udsipc/internal/publish"
	"github.com/udsipc/udsipc/internal/receiver"
	"github.com/udsipc/udsipc/internal/transport"
)

// A Reader accepts connections and passes their messages to a handler. NewReader, NewDeliveryReader
// or NewBatchReader creates it; it listens after Start, and ends with Stop. It cannot be started
// again. All methods are safe for concurrent use.
type Reader struct {
	server      *receiver.Server
	readMemory  *readMemory          // Of all read buffers together.
	shared      *sharedConfig        // For Close.
	publication *publish.Publication // nil: the metrics are not published.
}

// NewReader returns a Reader that passes the messages sent to address to handler. address is a
// path, unix:PATH, @name (Linux) or tcp://HOST:PORT. Under socket activation the Reader uses the
// socket that systemd passed. The error names the invalid option or the invalid part of the
// address.
func NewReader(handler MessageHandler, address string, opts ...ReaderOption) (*Reader, error) {
	if handler == nil {
		return nil, ErrHandlerNil
	}
	return newReader(handlers{message: handler}, address, opts)
}

// NewDeliveryReader is NewReader for a handler that also receives the origin of each message.
func NewDeliveryReader(handler DeliveryHandler, address string, opts ...ReaderOption) (*Reader, error) {
	if handler == nil {
		return nil, ErrHandlerNil
	}
	return newReader(handlers{delivery: handler}, address, opts)
}

// handlers has the handler of a Reader; the others are nil.
type handlers struct {
	message  MessageHandler
	delivery DeliveryHandler
	batch    BatchHandler
}

func newReader(h handlers, address string, opts []ReaderOption) (*Reader, error) {
	cfg, err := newReaderConfig(address, opts)
	if err != nil {
		return nil, err
	}
	if cfg.sendOnlyOption != "" {
		return nil, fmt.Errorf("udsipc: %s is for whoever sends: a Writer or a Listener", cfg.sendOnlyOption)
	}
	if h.batch == nil && cfg.batch.option != "" {
		return nil, fmt.Errorf("udsipc: %s is for NewBatchReader: this Reader's handler gets one message", cfg.batch.option)
	}
	memory := cfg.newMemory()
	config := cfg.server(memory)
	if h.message != nil {
		config.Message = h.message
	}
	if h.batch != nil {
		config.Batches = cfg.batch.receiver(h.batch)
	}
	if h.message == nil || cfg.deadLetter != nil {
		config.Open = func(from *transport.Peer) receiver.Sink {
			return newDeliverer(publicPeer(from), h.delivery, cfg.deadLetter)
		}
	}
	r := &Reader{readMemory: memory, shared: &cfg.sharedConfig}
	config.Ended = func() { r.publication.Stop() }
	r.server = receiver.New(config)
	r.publication = cfg.serverPublication("reader", func() any { return r.Metrics() }, r.server)
	return r, nil
}

// Start listens and returns. It may be called again, also after an error; after Stop it returns
// ErrStopped. ErrSocketInUse means that another process listens at the address,
// ErrInvalidSocketPath that the file at the path is not a socket.
func (r *Reader) Start() error {
	err := publicError(r.server.Start())
	if err == nil {
		r.publication.Start()
	}
	return err
}

// Stop ends the Reader without losing a message. It rejects new connections, serves the backlog,
// closes the receiving side of each connection, handles all bytes that the kernel has accepted
// before, and removes its socket file. If a receiving side cannot be closed (anything but a Unix
// socket on Linux), it asks the peer to end with a goodbye, and waits for one second without bytes.
//
// ctx limits only Stop: use a new context, because the one that ended the program has already
// ended. When ctx ends first, Stop closes the connections and returns at once with an error that
// has the number of busy ones. It leaves running handlers behind and calls no other. Messages that
// were read and not handled are sent again in a session. In plain mode they are counted (Discarded)
// and reported, and the writer gets a report, unless a hung handler prevents it. Stop may be called
// before Start, again, and concurrently. Within a handler it returns only when ctx ends.
func (r *Reader) Stop(ctx context.Context) error {
	defer r.watchStop(ctx)()
	return r.shared.events.stopped(ctx, publicError(r.server.Stop(ctx)))
}

// watchStop reports that a Stop waits for connections without a deadline, until ended is called.
func (r *Reader) watchStop(ctx context.Context) (ended func()) {
	return watchStop(ctx,
		func(err error) { r.server.Report(OpStop, r.shared.addrText, err) },
		func() string { return fmt.Sprintf("%d connections have not ended", r.server.Snapshot().Open) })
}

// Close is Stop with a context that ends after WithCloseTimeout, 5 s by default. Its error is that of
// Stop; it matches context.DeadlineExceeded if the time was not enough. Close may be called again. It
// implements io.Closer.
func (r *Reader) Close() error {
	ctx, cancel := r.shared.closeContext()
	defer cancel()
	return r.Stop(ctx)
}

// Run starts the Reader, waits until ctx ends or the Reader has ended, and closes it. It returns the
// error of Start; else it joins that of Err, and that of Close, which may wait for WithCloseTimeout. The
// end of ctx is no error: after it, nil means that everything was handled that was sent.
//
// A Reader that was started before goes on; after Stop, Run returns ErrStopped. Another call of Stop ends
// Run. Run suits a context of signal.NotifyContext. Use Start and HandOver if a next process takes over.
func (r *Reader) Run(ctx context.Context) error {
	if err := r.Start(); err != nil {
		if failure := r.Err(); failure != nil {
			return failure // It was started before, and could accept no more.
		}
		return err
	}
	select {
	case <-ctx.Done():
	case <-r.Done():
	}
	closeErr := r.Close()
	if err := r.Err(); err != nil {
		return errors.Join(err, closeErr)
	}
	return closeErr
}

// HandOver stops the Reader and stores its listener and connections in systemd's descriptor store
// (FileDescriptorStoreMax=). The next process's Reader with the same name (WithSystemdName, else
// the address) inherits them. Writers stay connected; nothing is lost, repeated or reordered.
//
// Each connection is first paused at a frame boundary. It is closed as by Stop, and reported with
// OpHandOver, if a message stays incomplete for a second, with TLS, or if the store is full. Unless
// systemd confirms the store, HandOver acts like Stop.
//
// Use it only if a next process starts: systemd closes what nobody inherits, and plain writers
// report a possible loss. RestartKillSignal= (systemd.kill(5)) tells a restart from a stop. If the
// name changes between two versions, PassedDescriptors lists the stored connections.
// FileDescriptorStoreMax= and LimitNOFILE= must have room for all connections and four more.
func (r *Reader) HandOver(ctx context.Context) error {
	defer r.watchStop(ctx)()
	return r.shared.events.stopped(ctx, publicError(r.server.HandOver(ctx)))
}

// Addr returns the address that the Reader listens on, or nil before Start. For tcp://HOST:0 it has
// the port that the system chose.
func (r *Reader) Addr() net.Addr { return r.server.Addr() }

// Done returns a channel that is closed when the Reader has ended, because of Stop or a permanent
// accept error; Err returns the latter.
func (r *Reader) Done() <-chan struct{} { return r.server.Finished() }

// Err returns the error that ended the Reader, or nil.
func (r *Reader) Err() error { return publicError(r.server.Failure()) }
