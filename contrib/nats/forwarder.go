// SPDX-License-Identifier: Apache-2.0

package natsbridge

// This file is the way from the cluster to a local Reader.

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
)

// A Forwarder sends the messages of a JetStream consumer to a local Reader, in the order in which it gets
// them, and acknowledges each when the handler of the Reader has returned. Run does all of it.
//
// A message may come to the Reader more than once: if the acknowledgement to JetStream is lost, or if the
// Forwarder is killed. JetStream sends messages that come again in an order of its own; a consumer with
// MaxAckPending 1 keeps the order of the stream also then. A message that the Reader will not take (its
// WithMaxMessageSize) is given back to JetStream with a growing delay; later ones overtake it. After the
// last try (WithMaxDeliveries) it is published to the dead letter subject and ended with a reason.
//
// A message whose handler fails is redelivered by the Reader (udsipc.WithMaxRedeliveries), and then is its dead
// letter. A Writer does not learn of that. With a failures.Reporter as the udsipc.WithDeadLetter of the Reader,
// and HandleFailure as the handler of another Reader, the message is given back as one that is not taken.
// Without them it counts as handled.
type Forwarder struct {
	js       jetstream.JetStream
	stream   string
	consumer string
	id       udsipc.WriterID
	writer   *udsipc.Writer
	cfg      forwarderConfig

	mu      sync.Mutex // Guards what follows.
	pending []forwarded
	written int    // Those of pending that the Writer has, the first ones.
	first   uint64 // Number of the first of pending, as the Writer counts.

	arrived, room, retime chan struct{} // One slot each: pending has grown, or become less; interval has changed.

	interval      atomic.Int64  // Of keepAlive.
	maxDeliveries atomic.Uint64 // WithMaxDeliveries, or MaxDeliver of the consumer.

	stopping atomic.Bool     // What the Writer gives up from now on is not refused by the Reader.
	failing  map[string]bool // Causes since the last message. Of the goroutine of Run.

	reporting sync.Mutex  // Calls of the state callback do not overlap.
	deadFails atomic.Bool // The last dead letter was not stored.

	counts forwarderCounts
}

// A forwarded message waits for the Reader.
type forwarded struct {
	msg    jetstream.Msg
	failed bool  // It was given up, and is answered already.
	cause  error // The handler has failed for it.
}

// ForwarderMetrics are the counters of a Forwarder.
type ForwarderMetrics struct {
	Received    uint64 `json:"received"`     // Messages that JetStream has sent, each time.
	Handled     uint64 `json:"handled"`      // Messages that the Reader has handled.
	Failed      uint64 `json:"failed"`       // Messages that the Reader's handler has failed for (HandleFailure).
	Returned    uint64 `json:"returned"`     // Messages that were given back to JetStream.
	DeadLetters uint64 `json:"dead_letters"` // Messages that were ended.
	Pending     int    `json:"pending"`      // Messages that wait for the Reader.
}

type forwarderCounts struct {
	received, handled, failed, returned, deadLetters atomic.Uint64
}

// NewForwarder returns a Forwarder of a consumer, which exists or will, to the Reader at an address. The
// consumer must be one with explicit acknowledgements; its MaxAckPending bounds the messages that wait
// here.
func NewForwarder(
	js jetstream.JetStream, stream, consumer, address string, opts ...ForwarderOption,
) (*Forwarder, error) {
	if js == nil {
		return nil, errors.New("natsbridge: NewForwarder: js is nil")
	}
	if !validTokens(stream) || !validTokens(consumer) {
		return nil, fmt.Errorf("natsbridge: NewForwarder: stream %q, consumer %q: want names", stream, consumer)
	}
	f := &Forwarder{js: js, stream: stream, consumer: consumer, cfg: defaultForwarderConfig(), first: 1,
		failing: make(map[string]bool), arrived: make(chan struct{}, 1), room: make(chan struct{}, 1),
		retime: make(chan struct{}, 1)}
	for _, set := range opts {
		set(&f.cfg)
	}
	if err := f.cfg.check(); err != nil {
		return nil, err
	}
	f.interval.Store(int64(f.cfg.keepAlive))
	f.maxDeliveries.Store(f.cfg.maxDeliveries)
	id := udsipc.Identity{First: 1, Attempt: 1} // With it, every message has a number, also one that is given up.
	_, _ = rand.Read(id.Writer[:])
	f.id = id.Writer
	own := []udsipc.WriterOption{
		udsipc.WithAcknowledgements(), udsipc.WithOverflow(udsipc.OverflowBlock), udsipc.WithIdentity(id),
		udsipc.WithHandled(f.onHandled), udsipc.WithUndelivered(f.onUndelivered), udsipc.WithMaxAge(0),
	}
	var err error
	f.writer, err = udsipc.NewWriter(address, append(f.cfg.writer[:len(f.cfg.writer):len(f.cfg.writer)], own...)...)
	return f, err
}

// Metrics returns the counters.
func (f *Forwarder) Metrics() ForwarderMetrics {
	f.mu.Lock()
	pending := len(f.pending)
	f.mu.Unlock()
	return ForwarderMetrics{
		Received: f.counts.received.Load(), Handled: f.counts.handled.Load(), Failed: f.counts.failed.Load(),
		Returned: f.counts.returned.Load(), DeadLetters: f.counts.deadLetters.Load(), Pending: pending,
	}
}

// Run forwards until ctx ends. It then waits for what the Reader has (WithDrainTimeout), gives the other
// messages back to JetStream, and returns the error of that. It may be called once.
func (f *Forwarder) Run(ctx context.Context) error {
	if err := f.writer.Start(); err != nil {
		return err
	}
	stop := make(chan struct{})
	var beating, writing sync.WaitGroup
	beating.Go(func() { f.keepAlive(stop) })
	writing.Go(func() { f.write(ctx) })
	for tries := 0; ctx.Err() == nil; tries++ {
		before := f.counts.received.Load()
		f.report(ctx, f.consume(ctx))
		if f.counts.received.Load() > before {
			tries = 0
		}
		select {
		case <-time.After(min(f.cfg.maxBackoff, minBackoff<<min(tries, 16))):
		case <-ctx.Done():
		}
	}
	writing.Wait()
	f.returnUnwritten()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.cfg.drainTimeout)
	defer cancel()
	f.stopping.Store(true)
	stopErr := f.writer.Stop(drain)
	close(stop)
	beating.Wait()
	err := f.js.Conn().FlushTimeout(time.Second)
	if err != nil {
		err = fmt.Errorf("send the last acknowledgements: %w", err)
	}
	return errors.Join(stopErr, err)
}

// report tells a cause once, until a message comes.
func (f *Forwarder) report(ctx context.Context, err error) {
	if ctx.Err() != nil || err == nil {
		return
	}
	if key := causeOf(err); !f.failing[key] && len(f.failing) < maxReported {
		f.failing[key] = true
		f.state(err)
	}
}

// state calls the state callback.
func (f *Forwarder) state(cause error) {
	f.reporting.Lock()
	defer f.reporting.Unlock()
	f.cfg.state(cause)
}

// tellDead tells that no dead letter can be stored (nil: one was), if the contrary was the case.
func (f *Forwarder) tellDead(cause error) {
	if f.deadFails.Swap(cause != nil) != (cause != nil) {
		f.state(cause)
	}
}

// consume forwards until it fails.
func (f *Forwarder) consume(ctx context.Context) error {
	look, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	c, err := f.js.Consumer(look, f.stream, f.consumer)
	if err != nil {
		return fmt.Errorf("consumer %s of stream %s: %w", f.consumer, f.stream, err)
	}
	if policy := c.CachedInfo().Config.AckPolicy; policy != jetstream.AckExplicitPolicy {
		return fmt.Errorf("%w: consumer %s of stream %s has %v", errPolicy, f.consumer, f.stream, policy)
	}
	bound := f.adopt(&c.CachedInfo().Config)
	messages, err := c.Messages(jetstream.PullMaxMessages(f.cfg.maxPending), jetstream.PullHeartbeat(5*time.Second))
	if err != nil {
		return err
	}
	late, cancelLate := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelLate()
	defer context.AfterFunc(ctx, func() {
		messages.Drain()
		if f.js.Conn().IsConnected() {
			time.AfterFunc(drainFetched, cancelLate)
		} else {
			cancelLate()
		}
	})()
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextContext(late))
		if err != nil {
			return err
		}
		if len(f.failing) > 0 {
			clear(f.failing)
			f.state(nil)
		}
		f.counts.received.Add(1)
		f.add(ctx, m, bound)
	}
}

// onHandled acknowledges the messages up to a number.
func (f *Forwarder) onHandled(number uint64) {
	f.mu.Lock()
	n := min(int(number+1-f.first), f.written)
	done := f.pending[:n:n]
	f.pending = f.pending[n:]
	f.written -= n
	f.first += uint64(n)
	f.mu.Unlock()
	for _, one := range done {
		switch {
		case one.failed:
		case one.cause != nil:
			f.counts.failed.Add(1)
			f.fail(one.msg, one.cause)
		default:
			_ = one.msg.Ack() // If it is lost, the message comes again.
			f.counts.handled.Add(1)
		}
	}
}

// onUndelivered is called for each message that the Writer gives up, the oldest first: the Reader does not take
// it, or the Forwarder ends.
func (f *Forwarder) onUndelivered(data []byte) {
	f.mu.Lock()
	var m jetstream.Msg
	for i := range f.pending[:f.written] {
		if one := &f.pending[i]; !one.failed && f.sent(one.msg, data) {
			one.failed, m = true, one.msg
			break
		}
	}
	f.mu.Unlock()
	switch {
	case m == nil:
	case f.stopping.Load():
		f.giveBack(m, 0)
	default:
		f.fail(m, errRejected)
	}
}

// sent reports whether a message was sent as data.
func (f *Forwarder) sent(m jetstream.Msg, data []byte) bool {
	encoded, err := f.encode(m)
	return err == nil && bytes.Equal(encoded, data)
}
