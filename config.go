// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what was set: the defaults, and the checks of all values together, once, so that an error can name the
// option and the value. config_reader.go has what only a Reader and a Listener know.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"time"

	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/socket"
	"github.com/udsipc/udsipc/internal/wire"
)

type sharedConfig struct {
	address          socket.Address
	addrText         string // The address as it was given, for errors.
	maxMessageSize   uint64
	heartbeatTimeout time.Duration
	authorizer       func(Peer) error
	authorizerSet    bool
	tls              *tls.Config
	tlsSet           bool
	plaintext        bool
	handshakeTimeout time.Duration
	logging          logConfig
	closeTimeout     time.Duration
	events           *eventLog // Made of logging and the error callback.

	// Of what is sent.
	maxBufferedWrites uint64
	maxBufferedBytes  uint64
	maxWritesSet      bool // maxBufferedWrites is the program's.
	writeTimeout      time.Duration
	stallTimeout      time.Duration // 0: never.
	overflow          OverflowPolicy
	overflowSet       bool
	sendOnlyOption    string // The last option of these that was set.

	publishName string
	publishSet  bool
}

// closeContext returns the context of a Stop that Close calls. Its cause names the option.
func (c *sharedConfig) closeContext() (context.Context, context.CancelFunc) {
	cause := fmt.Errorf("WithCloseTimeout(%v): %w", c.closeTimeout, context.DeadlineExceeded)
	return context.WithTimeoutCause(context.Background(), c.closeTimeout, cause)
}

// queueBytes is the bound of a conversation's queue: the largest message always fits.
func (c *sharedConfig) queueBytes() uint64 {
	return max(c.maxBufferedBytes, c.maxMessageSize+prefixAllowance)
}

// queueLimits are those of a conversation's queue.
func (c *sharedConfig) queueLimits() queue.Limits {
	return queue.Limits{
		Messages: c.maxBufferedWrites, Bytes: c.queueBytes(), DropOldest: c.overflow == OverflowDropOldest,
	}
}

// sharedDefaults are those of both sides.
func sharedDefaults(text string) sharedConfig {
	return sharedConfig{
		addrText: text, maxMessageSize: 10 << 20, heartbeatTimeout: 10 * time.Second, handshakeTimeout: 5 * time.Second,
		closeTimeout:      5 * time.Second,
		maxBufferedWrites: 10_000, maxBufferedBytes: 64 << 20, writeTimeout: time.Second,
	}
}

type writerConfig struct {
	sharedConfig
	dialTimeout      time.Duration
	maxBackoff       time.Duration
	maxAge           time.Duration
	writeBufferSize  uint32
	acknowledgements bool
	identity         *Identity // nil: a new one.
	onHandled        func(number uint64)
	onError          ErrorCallback
	onState          func(state State, cause error)
	undelivered      func(data []byte)
	dialer           func(ctx context.Context) (net.Conn, error)
	awaits           func(what error) (over func()) // Notes what an attempt waits for; nil for a Dial.
}

// tellState calls the callback of a state.
func (c *writerConfig) tellState(state State, cause error) {
	if c.onState != nil {
		c.onState(state, cause)
	}
}

func newWriterConfig(text string, opts []WriterOption) (writerConfig, error) {
	c := writerConfig{
		sharedConfig: sharedDefaults(text),
		dialTimeout:  time.Second,
		maxBackoff:   10 * time.Second,
	}
	for _, opt := range opts {
		if opt != nil {
			opt.applyWriter(&c)
		}
	}
	if err := c.check(text); err != nil {
		return c, err
	}
	c.events = newEventLog(text, c.onError, c.logging)
	switch {
	case c.writeBufferSize > math.MaxInt32/2:
		return c, invalidSize("WithWriteBufferSize", uint64(c.writeBufferSize), "at most 1 GiB")
	case c.dialTimeout <= 0:
		return c, invalidTimeout("WithDialTimeout", c.dialTimeout, "more than 0")
	case c.maxBackoff <= 0:
		return c, invalidTimeout("WithMaxBackoff", c.maxBackoff, "more than 0")
	case c.maxAge < 0:
		return c, invalidTimeout("WithMaxAge", c.maxAge, "0, which is off, or more")
	case c.onHandled != nil && !c.acknowledgements:
		return c, errors.New("udsipc: WithHandled needs WithAcknowledgements")
	case c.identity != nil:
		if err := c.checkIdentity(); err != nil {
			return c, err
		}
	}
	switch {
	case c.tlsSet && c.tls.ServerName == "" && !c.tls.InsecureSkipVerify && c.address.Host() == "":
		return c, fmt.Errorf(
			"udsipc: WithTLS for %q: set the configuration's ServerName, the name in the reader's certificate",
			text)
	case c.dialer == nil:
		return c, c.checkPlaintext(text)
	}
	return c, nil
}

// check is for what both sides have.
func (c *sharedConfig) check(text string) error {
	var err error
	if c.address, err = socket.Parse(text); err != nil {
		return err
	}
	if c.maxMessageSize == 0 {
		return invalidSize("WithMaxMessageSize", 0, "at least 1 byte")
	}
	c.maxMessageSize = min(c.maxMessageSize, maxMessageLimit)
	switch {
	case c.authorizerSet && c.authorizer == nil:
		return fmt.Errorf("udsipc: WithAuthorizer(nil): want a function")
	case c.tlsSet && c.tls == nil:
		return fmt.Errorf("udsipc: WithTLS(nil): want a configuration")
	case c.logging.set && c.logging.logger == nil:
		return fmt.Errorf("udsipc: WithLogger(nil): want a logger; slog.New(slog.DiscardHandler) is silent")
	case c.tlsSet && c.plaintext:
		return fmt.Errorf("udsipc: WithTLS and WithPlaintext contradict each other")
	case c.handshakeTimeout <= 0:
		return invalidTimeout("WithHandshakeTimeout", c.handshakeTimeout, "more than 0")
	case c.closeTimeout < 0:
		return invalidTimeout("WithCloseTimeout", c.closeTimeout, "0, which does not wait, or more")
	}
	if err := c.checkPublished(); err != nil {
		return err
	}
	if c.tlsSet {
		c.tls = withMinTLS(c.tls)
	}
	switch {
	case c.maxBufferedWrites == 0:
		return invalidSize("WithMaxBufferedWrites", 0, "at least 1 message")
	case c.maxBufferedBytes == 0:
		return invalidSize("WithMaxBufferedBytes", 0, "at least 1 byte")
	case c.stallTimeout < 0:
		return invalidTimeout("WithStallTimeout", c.stallTimeout, "0, which is never, or more")
	case c.writeTimeout <= 0:
		return invalidTimeout("WithWriteTimeout", c.writeTimeout, "more than 0")
	case c.overflow < OverflowRefuse || c.overflow > OverflowDropOldest:
		return fmt.Errorf("udsipc: WithOverflow(%v): no such policy", c.overflow)
	case c.heartbeatTimeout != 0 && c.heartbeatTimeout < wire.MinHeartbeatTimeout:
		return invalidTimeout("WithHeartbeatTimeout", c.heartbeatTimeout, "0, which is never, or 100 ms or more")
	}
	return nil
}

// checkPlaintext refuses what would go over a network for everybody to read.
func (c *sharedConfig) checkPlaintext(text string) error {
	if c.tlsSet || c.plaintext {
		return nil
	}
	if c.address = c.address.KeptOnMachine(); c.address.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%w: %q is not a loopback address; use WithTLS, or WithPlaintext if "+
		"everybody on the way may read and write", ErrPlaintext, text)
}

// checkPassed is checkPlaintext for a socket that systemd passed, which need not be at the address.
func (c *sharedConfig) checkPassed(at net.Addr) error {
	tcp, ok := at.(*net.TCPAddr)
	if !ok || c.tlsSet || c.plaintext || tcp.IP.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%w: systemd passed a socket at %v, which is not a loopback address; use "+
		"WithTLS, or WithPlaintext if everybody on the way may read and write", ErrPlaintext, tcp)
}

// withMinTLS returns a copy of config that asks for TLS 1.3 at least, unless config names another version.
// So do the configurations that it chooses for single clients.
func withMinTLS(config *tls.Config) *tls.Config {
	config = config.Clone()
	if config.MinVersion == 0 && (config.MaxVersion == 0 || config.MaxVersion >= tls.VersionTLS13) {
		config.MinVersion = tls.VersionTLS13
	}
	if choose := config.GetConfigForClient; choose != nil {
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(hello)
			if chosen == nil || err != nil {
				return nil, err
			}
			return withMinTLS(chosen), nil
		}
	}
	return config
}

func invalidSize(option string, value uint64, want string) error {
	return fmt.Errorf("%w: %s(%d): want %s", ErrInvalidBufferSize, option, value, want)
}

func invalidTimeout(option string, value time.Duration, want string) error {
	return fmt.Errorf("%w: %s(%v): want %s", ErrInvalidTimeout, option, value, want)
}
