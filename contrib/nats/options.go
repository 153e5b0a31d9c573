// SPDX-License-Identifier: Apache-2.0

package natsbridge

// This file is what can be set of a Publisher.

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/udsipc/udsipc"
)

// A PublisherOption sets something of a Publisher.
type PublisherOption func(*publisherConfig)

type publisherConfig struct {
	subject     func(d *udsipc.Delivery) string
	header      func(d *udsipc.Delivery, h nats.Header)
	state       func(cause error)
	ackTimeout  time.Duration
	maxBackoff  time.Duration
	moveAfter   time.Duration
	maxInFlight int
	maxBatch    int
	maxBytes    int
	allIDs      bool
	single      int // Largest batch whose messages are published one by one; negative: singleMessages.
}

func defaultPublisherConfig() publisherConfig {
	return publisherConfig{
		state: logState, ackTimeout: 5 * time.Second, maxBackoff: 5 * time.Second, moveAfter: 10 * time.Second,
		maxInFlight: 4, maxBatch: maxAtomicBatch, maxBytes: 4 << 20,
		single: -1,
	}
}

// WithSubject sets a function that returns the end of a message's subject, one token or more: the subject is
// PREFIX.WRITER.REST. By default the subject is PREFIX.WRITER. The function is called again if the message is
// published again, and must then return the same. An end that NATS does not accept, such as an empty one, fails
// the message as a handler's error does (udsipc.WithDeadLetter).
func WithSubject(rest func(d *udsipc.Delivery) string) PublisherOption {
	return func(c *publisherConfig) { c.subject = rest }
}

// WithHeader sets a function that adds headers to a message, such as PeerHeader. Names that begin with
// "Nats-" are JetStream's. By default there are none.
func WithHeader(add func(d *udsipc.Delivery, h nats.Header)) PublisherOption {
	return func(c *publisherConfig) { c.header = add }
}

// WithMessageIDs gives every message a Nats-Msg-Id. By default only the last message of a Writer in each batch
// has one, unless consumers of the stream remove messages. An ID costs about 60 bytes of each message on disk,
// and, for the duplicate window of the stream, memory in each server that has a replica.
func WithMessageIDs() PublisherOption {
	return func(c *publisherConfig) { c.allIDs = true }
}

// WithMaxInFlight sets how many batches may be on their way to JetStream at the same time. The default is 4.
// Those of more than one message are committed one after another. A Writer has one of them at most. A server
// accepts 50 for each stream, from all bridges together, unless it is configured otherwise. Less than 1 is
// an error.
func WithMaxInFlight(batches int) PublisherOption {
	return func(c *publisherConfig) { c.maxInFlight = batches }
}

// WithMaxBatch sets the largest number of messages of a batch. The default is 1,000, which is the limit of a
// server unless it is configured otherwise. Less than 1 is an error.
func WithMaxBatch(messages int) PublisherOption {
	return func(c *publisherConfig) { c.maxBatch = messages }
}

// WithAckTimeout sets how long a batch waits for the acknowledgement before it is tried again. The default is
// 5 s. 0 or less is an error.
func WithAckTimeout(d time.Duration) PublisherOption {
	return func(c *publisherConfig) { c.ackTimeout = d }
}

// WithMaxBackoff sets the longest pause between two tries while the cluster accepts nothing. The default
// is 5 s. The bound of the pause grows from 50 ms; each pause is random, between half of its bound and its
// bound. 0 or less is an error.
func WithMaxBackoff(d time.Duration) PublisherOption {
	return func(c *publisherConfig) { c.maxBackoff = d }
}

// WithMoveAfter sets how long the server of the connection may not reach the stream before the connection
// is made anew (nats.Conn.ForceReconnect), to the next server in its list. The default is 10 s; 0 disables
// it. It helps where the network between two servers is cut: a server does not forward for others. A
// negative duration is an error.
func WithMoveAfter(d time.Duration) PublisherOption {
	return func(c *publisherConfig) { c.moveAfter = d }
}

// WithStateCallback sets a function that is called when publishing begins to fail, with the cause, once
// for each other cause until it succeeds again, and then with nil. Calls do not overlap. By default this
// is logged (slog.Default). A failure that the next try mends is not reported.
func WithStateCallback(callback func(cause error)) PublisherOption {
	return func(c *publisherConfig) { c.state = callback }
}

func logState(cause error) {
	if cause == nil {
		slog.Info("natsbridge: publishing again")
		return
	}
	slog.Warn("natsbridge: nothing is published; the writers keep their messages", "cause", cause)
}

func (c *publisherConfig) check() error {
	switch {
	case c.maxInFlight < 1:
		return fmt.Errorf("natsbridge: WithMaxInFlight(%d): want 1 or more", c.maxInFlight)
	case c.maxBatch < 1:
		return fmt.Errorf("natsbridge: WithMaxBatch(%d): want 1 or more", c.maxBatch)
	case c.ackTimeout <= 0:
		return fmt.Errorf("natsbridge: WithAckTimeout(%v): want more than 0", c.ackTimeout)
	case c.maxBackoff <= 0:
		return fmt.Errorf("natsbridge: WithMaxBackoff(%v): want more than 0", c.maxBackoff)
	case c.moveAfter < 0:
		return fmt.Errorf("natsbridge: WithMoveAfter(%v): want 0, which disables it, or more", c.moveAfter)
	case c.state == nil:
		return fmt.Errorf("natsbridge: WithStateCallback(nil): want a function")
	}
	return nil
}
