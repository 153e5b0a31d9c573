// SPDX-License-Identifier: Apache-2.0

package natsbridge

// This file is what can be set of a Forwarder.

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
)

var (
	errPolicy   = errors.New("natsbridge: the consumer must have AckExplicitPolicy")
	errEncoding = errors.New("natsbridge: the function of WithEncoding has failed")
	errHandler  = errors.New("natsbridge: the handler of the local reader has failed")
	errRejected = errors.New("natsbridge: the local reader does not take the message: is it over its limit?")
)

// apiTimeout bounds a request to JetStream.
const apiTimeout = 5 * time.Second

// drainFetched bounds how long the messages that nats.go has are taken at the end. The cluster may be away.
const drainFetched = time.Second

// A ForwarderOption sets something of a Forwarder.
type ForwarderOption func(*forwarderConfig)

type forwarderConfig struct {
	encode        func(m jetstream.Msg) []byte
	state         func(cause error)
	deadLetters   string
	maxDeliveries uint64
	maxPending    int
	maxBackoff    time.Duration
	drainTimeout  time.Duration
	keepAlive     time.Duration
	writer        []udsipc.WriterOption
}

func defaultForwarderConfig() forwarderConfig {
	return forwarderConfig{
		state: func(cause error) {
			if cause != nil {
				slog.Warn("natsbridge: nothing is forwarded", "cause", cause)
				return
			}
			slog.Info("natsbridge: forwarding again")
		},
		maxDeliveries: 5, maxPending: 1000, maxBackoff: 30 * time.Second, drainTimeout: 5 * time.Second,
		keepAlive: 10 * time.Second,
	}
}

// WithEncoding sets a function that makes the local message, for example with the subject in front. It
// must return the same for the same message. By default the local message is the Data.
func WithEncoding(encode func(m jetstream.Msg) []byte) ForwarderOption {
	return func(c *forwarderConfig) { c.encode = encode }
}

// WithDeadLetters sets the subject to which messages are published that the Reader does not take, or that its
// handler has failed for, after the last delivery. A stream must have it. A dead letter has the headers of the
// message but for those of NATS, and Udsipc-Subject, Udsipc-Cause, Udsipc-Stream, Udsipc-Consumer,
// Udsipc-Sequence and Udsipc-Deliveries. By default such a message is only ended, with the cause as the reason.
func WithDeadLetters(subject string) ForwarderOption {
	return func(c *forwarderConfig) { c.deadLetters = subject }
}

// WithMaxDeliveries sets how often JetStream sends a message that the Reader does not take, or that its handler
// fails for. The default is 5, with delays of 1, 2, 4 and 8 s; or the MaxDeliver of the consumer if that is less.
// Less than 1 is an error.
func WithMaxDeliveries(n int) ForwarderOption {
	return func(c *forwarderConfig) { c.maxDeliveries = uint64(max(n, 0)) }
}

// WithMaxPending sets how many messages are asked for ahead. The default is 1,000. Less than 1 is an error.
func WithMaxPending(messages int) ForwarderOption {
	return func(c *forwarderConfig) { c.maxPending = messages }
}

// WithDrainTimeout sets how long Run waits for the Reader after its context has ended. The default is 5 s. A
// negative duration is an error.
func WithDrainTimeout(d time.Duration) ForwarderOption {
	return func(c *forwarderConfig) { c.drainTimeout = d }
}

// WithKeepAlive sets how often JetStream is told that messages wait for the Reader. The default is 10 s.
// If the AckWait of the consumer is shorter, it is a third of that. 0 or less is an error.
func WithKeepAlive(d time.Duration) ForwarderOption {
	return func(c *forwarderConfig) { c.keepAlive = d }
}

// WithForwarderStateCallback is WithStateCallback for a Forwarder.
func WithForwarderStateCallback(callback func(cause error)) ForwarderOption {
	return func(c *forwarderConfig) { c.state = callback }
}

// WithWriterOptions adds options of the Writer. The Forwarder sets WithAcknowledgements, WithOverflow,
// WithIdentity, WithHandled and WithUndelivered itself, and has no WithMaxAge.
func WithWriterOptions(opts ...udsipc.WriterOption) ForwarderOption {
	return func(c *forwarderConfig) { c.writer = append(c.writer, opts...) }
}

func (c *forwarderConfig) check() error {
	switch {
	case c.maxDeliveries < 1:
		return fmt.Errorf("natsbridge: WithMaxDeliveries(%d): want 1 or more", c.maxDeliveries)
	case c.maxPending < 1:
		return fmt.Errorf("natsbridge: WithMaxPending(%d): want 1 or more", c.maxPending)
	case c.drainTimeout < 0:
		return fmt.Errorf("natsbridge: WithDrainTimeout(%v): want 0 or more", c.drainTimeout)
	case c.keepAlive <= 0:
		return fmt.Errorf("natsbridge: WithKeepAlive(%v): want more than 0", c.keepAlive)
	case c.deadLetters != "" && !validTokens(c.deadLetters):
		return fmt.Errorf("natsbridge: WithDeadLetters(%q): want a subject", c.deadLetters)
	case c.state == nil:
		return errors.New("natsbridge: WithForwarderStateCallback(nil): want a function")
	}
	return nil
}
