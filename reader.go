// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the Reader as its user sees it. Its goroutines are in accept.go and serve.go.

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A Reader accepts connections and hands their messages to a handler. It is made by NewReader or
// NewDeliveryReader, listens from Start on, and ends with Stop; it cannot be started again then. All
// methods may be called from any goroutine.
type Reader struct {
	cfg           readerConfig
	message       MessageHandler  // One of these two is set.
	deliver       DeliveryHandler //
	conversations chan *Conn      // Instead of the two: what a Listener gives out.
	counts        readerCounts
	writers       *writerMemory // Those that ask for acknowledgements.
	memory        budget        // Of all read buffers together.
	queued        sharedRoom    // Of all queues of a Listener together.

	// Stopping.
	handling  context.Context // Ended when Stop does not wait any longer.
	giveUp    context.CancelFunc
	abandoned chan struct{}             // Closed when nobody accepts conversations any more.
	drained   chan struct{}             // Closed when none will come any more.
	calling   atomic.Bool               // The goroutine that accepts is in a callback, which may wait for it.
	accepting atomic.Pointer[time.Time] // Since when it waits in Accept; nil if it does not.
	offered   sync.WaitGroup            // Conversations that nobody has accepted yet.
	listened  chan struct{}             // Closed when no connection is accepted any more.
	stopping  chan struct{}             // Closed when Stop begins, or when accepting failed for good.
	done      chan struct{}             // Closed when all connections are gone, or Stop does not wait for them.
	wg        sync.WaitGroup
	room      chan struct{} // One slot: a connection ended.
	rested    chan struct{} // One slot: a connection is at rest, or has ended.
	verdict   chan struct{} // Closed when it is certain what becomes of those at rest.
	knock     chan struct{} // One slot: knocked was set.
	answered  chan struct{} // One slot: it was answered.

	mu              sync.Mutex // Guards what follows.
	superviseErr    error      // Set before it is started.
	phase           phase
	ended           bool // done is closed.
	err             error
	listener        net.Listener
	file            *socketFile
	passed          *passedSocket
	shut            bool // The listener refuses new connections.
	empties         bool // The listener is emptied before it is closed.
	filtered        bool // It does not answer them.
	closing         bool // The connections are being ended,
	forced          bool // or have been halted.
	conns           map[*readerConn]struct{}
	refusing        int            // How many of conns are being refused.
	users           map[string]int // How many of the others each user has.
	lastID          uint64
	legacy          *legacy        // What an earlier process has left, until it is adopted.
	handingOver     bool           // The next process is to have the listener and the connections.
	left            map[string]int // How many descriptors were left with systemd, by their names.
	resting         int            // How many connections were, and wait whether that is for good.
	restingSessions map[*readerConn]legacySession
	kept            bool // It is for good; verdict is closed.
	knocked         bool // Does the goroutine that accepts live? If it waits in Accept, that is woken.
	stuckHandlers   int  // When last looked at.
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
	r := newReaderWith(cfg)
	r.message, r.deliver = message, deliver
	return r, nil
}

// newReaderWith returns a Reader that nobody listens to yet.
func newReaderWith(cfg readerConfig) *Reader {
	r := &Reader{
		cfg:       cfg,
		listened:  make(chan struct{}),
		abandoned: make(chan struct{}),
		drained:   make(chan struct{}),
		rested:    make(chan struct{}, 1),
		verdict:   make(chan struct{}),
		writers:   newWriterMemory(cfg.maxWriters, cfg.writerMemory),
		stopping:  make(chan struct{}),
		done:      make(chan struct{}),
		room:      make(chan struct{}, 1),
		knock:     make(chan struct{}, 1),
		answered:  make(chan struct{}, 1),
		conns:     make(map[*readerConn]struct{}),
		users:     make(map[string]int),

		restingSessions: make(map[*readerConn]legacySession),

		memory: budget{limit: int64(cfg.readMemory)},
	}
	r.handling, r.giveUp = context.WithCancel(context.Background())
	return r
}

// Start listens and returns. It may be called again, also after an error; after Stop it returns
// ErrStopped. ErrSocketInUse means that somebody listens there already, ErrInvalidSocketPath that
// what lies at the path is no socket.
func (r *Reader) Start() error {
	r.mu.Lock()
	phase := r.phase
	var err error
	if phase == phaseNew {
		err = r.startLocked()
	}
	r.mu.Unlock()
	switch {
	case phase == phaseStopped:
		return ErrStopped
	case phase == phaseNew && err == nil:
		supervision.announce(r)
	}
	return err
}

func (r *Reader) startLocked() error {
	if err := r.listenLocked(); err != nil {
		return err
	}
	r.legacy.forgetStored()
	r.phase = phaseStarted
	supervision.enroll(r)
	r.wg.Add(1)
	go r.run() // Ends when the listener does; finish waits for it.
	return nil
}

// listenLocked finds the listener: the one that was given, the one that systemd passed, or a new one.
func (r *Reader) listenLocked() (err error) {
	if r.cfg.listener != nil {
		r.listener = r.cfg.listener
		return nil
	}
	if !r.cfg.withoutSystemd {
		if r.listener, r.passed, err = takePassed(r.cfg.systemdName); err != nil {
			return asOpError(OpActivate, r.cfg.where, err)
		}
		if err := r.checkPassedLocked(); err != nil {
			return asOpError(OpActivate, r.cfg.where, err)
		}
		if err := r.inheritLocked(); err != nil {
			return asOpError(OpListen, r.cfg.where, err)
		}
	}
	if r.listener == nil {
		r.listener, r.file, err = listen(r.cfg.listenSpec())
	}
	return asOpError(OpListen, r.cfg.where, err)
}

// checkPassedLocked gives a socket that systemd passed back if what comes there could be read on the way.
func (r *Reader) checkPassedLocked() error {
	if r.passed == nil {
		return nil
	}
	err := r.cfg.checkPassed(r.listener.Addr())
	if err != nil {
		if single, ok := r.listener.(*passedConnection); ok {
			closeNow(single.conn)
		}
		err = firstError(err, r.listener.Close())
		r.passed.release()
		r.listener, r.passed = nil, nil
	}
	return err
}

// Addr returns the address that the Reader listens on, or nil before Start. For tcp://HOST:0 it has
// the port that the system chose.
func (r *Reader) Addr() net.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener == nil {
		return nil
	}
	return r.listener.Addr()
}

// Done returns a channel that is closed when the Reader has ended: because of Stop, or because
// accepting failed for good; Err tells which.
func (r *Reader) Done() <-chan struct{} { return r.done }

// Err returns why the Reader ended by itself, or nil.
func (r *Reader) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return public(r.err)
}

// reportAccept is report in the goroutine that accepts.
func (r *Reader) reportAccept(addr string, err error) {
	r.calling.Store(true)
	defer r.calling.Store(false)
	r.report(OpAccept, addr, err)
}

// report tells the error callback.
func (r *Reader) report(op, addr string, err error) {
	r.counts.errors.Add(1)
	r.cfg.onError.report(op, addr, err)
}
