// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what was set of a Reader and a Listener: the defaults, the checks, and what the receiver needs to know.

import (
	"fmt"
	"io/fs"
	"math"
	"net"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/receiver"
	"github.com/udsipc/udsipc/internal/socket"
	"github.com/udsipc/udsipc/internal/systemd"
	"github.com/udsipc/udsipc/internal/transport"
)

// What a Conn has of Dial as well.
const (
	defaultReadBuffer     = 256 << 10
	defaultReadMemory     = 64 << 20
	defaultSendMemory     = 128 << 20
	defaultMessageTimeout = 30 * time.Second
)

type readerConfig struct {
	sharedConfig
	inactivityTimeout     time.Duration
	readBufferSize        uint32
	maxAcceptErrors       int
	maxConnections        int
	maxConnectionsPerUser int // 0: as many as maxConnections.
	firstMessageTimeout   time.Duration
	messageTimeout        time.Duration
	maxReadMemory         uint64
	maxSendMemory         uint64
	maxSendMemorySet      bool
	batch                 batchConfig
	maxRedeliveries       int
	deadLetter            func(d *Delivery, err error)
	maxWriterStates       int
	writerRetention       time.Duration
	socketMode            fs.FileMode
	socketModeSet         bool
	socketUID             int
	socketGID             int
	systemdName           string
	withoutSystemd        bool
	withoutNotifications  bool
	withoutReady          bool
	statusInterval        time.Duration // 0: never.
	hungTimeout           time.Duration // 0: as systemd's watchdog has it; negative: never.
	listener              net.Listener
	listenerSet           bool
	onError               ErrorCallback
}

// readerDefaults are those of a Reader without options.
func readerDefaults(text string) readerConfig {
	return readerConfig{
		sharedConfig:        sharedDefaults(text),
		inactivityTimeout:   10 * time.Second,
		readBufferSize:      defaultReadBuffer,
		maxAcceptErrors:     10,
		maxConnections:      1024,
		firstMessageTimeout: 10 * time.Second,
		messageTimeout:      defaultMessageTimeout,
		maxReadMemory:       defaultReadMemory,
		batch:               batchConfig{max: defaultMaxBatch},
		maxRedeliveries:     3,
		maxWriterStates:     4096,
		writerRetention:     time.Hour,
		statusInterval:      5 * time.Second,
		socketMode:          0o600,
		socketUID:           -1,
		socketGID:           -1,
	}
}

func newReaderConfig(text string, opts []ReaderOption) (readerConfig, error) {
	c := readerDefaults(text)
	for _, opt := range opts {
		if opt != nil {
			opt.applyReader(&c)
		}
	}
	if err := c.check(text); err != nil {
		return c, err
	}
	c.events = newEventLog(text, c.onError, c.logging)
	if c.readBufferSize == 0 {
		c.readBufferSize = defaultReadBuffer
	}
	switch {
	case c.inactivityTimeout < 0:
		return c, invalidTimeout("WithInactivityTimeout", c.inactivityTimeout, "0, which is never, or more")
	case c.readBufferSize > maxMessageLimit:
		return c, invalidSize("WithReadBufferSize", uint64(c.readBufferSize), "at most 1 GiB")
	case c.maxAcceptErrors < 0:
		return c, fmt.Errorf("udsipc: WithMaxAcceptErrors(%d): want 0 or more", c.maxAcceptErrors)
	case c.maxConnections < 1:
		return c, fmt.Errorf("udsipc: WithMaxConnections(%d): want 1 or more", c.maxConnections)
	case c.socketMode&^0o777 != 0 || c.socketMode == 0:
		return c, fmt.Errorf("udsipc: WithSocketMode(%#o): want permission bits, 0001 to 0777", uint32(c.socketMode))
	case c.socketUID < -1 || c.socketGID < -1:
		return c, fmt.Errorf(
			"udsipc: WithSocketOwner(%d, %d): want ids, or -1 to leave one as it is", c.socketUID,
			c.socketGID)
	case (c.socketModeSet || c.listenSpec().OwnerSet()) && (c.listener != nil || !c.address.IsFile()):
		return c, fmt.Errorf("udsipc: WithSocketMode(%#o), WithSocketOwner(%d, %d): %q has no "+
			"socket file that this Reader makes; use WithAuthorizer or WithTLS",
			uint32(c.socketMode), c.socketUID, c.socketGID, text)
	case c.listenerSet && c.listener == nil:
		return c, fmt.Errorf("udsipc: WithListener(nil): want a listener")
	case c.withoutSystemd && c.systemdName != "":
		return c, fmt.Errorf("udsipc: WithSystemdName(%q) and WithoutSystemd contradict each other", c.systemdName)
	}
	if err := errdefs.First(c.checkLimits(), c.batch.check()); err != nil {
		return c, err
	}
	if c.maxConnectionsPerUser == 0 {
		c.maxConnectionsPerUser = c.maxConnections
	}
	if c.listener == nil {
		return c, c.checkPlaintext(text)
	}
	return c, nil
}

// server returns what a server needs of this: everything but what is done with the messages.
func (c *readerConfig) server(memory *readMemory) receiver.Config {
	return receiver.Config{
		AddrText: c.addrText,

		Listener: c.listener, SystemdName: c.systemdName, WithoutSystemd: c.withoutSystemd,
		CheckPassed: c.checkPassed, Socket: c.listenSpec(), StoreKey: c.storeKey(),

		MaxAcceptErrors: c.maxAcceptErrors, MaxConnections: c.maxConnections, MaxConnectionsPerUser: c.maxConnectionsPerUser,
		MaxWriterStates: c.maxWriterStates, WriterRetention: c.writerRetention, MaxRedeliveries: c.maxRedeliveries,
		HeartbeatTimeout: c.heartbeatTimeout, HandshakeTimeout: c.handshakeTimeout,

		In: c.inLimits(), ReadMemory: memory, TLS: c.tls, Authorizer: authorizePeer(c.authorizer),

		Report: c.events.report,

		Notify: systemd.NotifyConfig{
			AddrText: c.addrText, Disabled: c.withoutSystemd || c.withoutNotifications, WithoutReady: c.withoutReady,
			StatusInterval: c.statusInterval, HungTimeout: c.hungTimeout,
		},
	}
}

// storeKey names what a Reader leaves for the next process, and takes.
func (c *readerConfig) storeKey() string {
	if c.systemdName != "" {
		return c.systemdName
	}
	return c.address.String()
}

// newMemory returns the limit of all read buffers together.
func (c *readerConfig) newMemory() *readMemory { return &readMemory{limit: int64(c.maxReadMemory)} }

// sendLimit is the bound of all queues of a Listener together.
func (c *readerConfig) sendLimit() int64 {
	if c.maxSendMemorySet {
		return int64(c.maxSendMemory)
	}
	return int64(max(defaultSendMemory, 2*min(c.queueBytes(), math.MaxInt64/4)))
}

// listenSpec is what the listener is to be like.
func (c *readerConfig) listenSpec() socket.Spec {
	return socket.Spec{Address: c.address, Mode: c.socketMode, Uid: c.socketUID, Gid: c.socketGID}
}

// checkLimits checks the limits of a Reader.
func (c *readerConfig) checkLimits() error {
	switch {
	case c.maxConnectionsPerUser < 0:
		return fmt.Errorf(
			"udsipc: WithMaxConnectionsPerUser(%d): want 1 or more, or 0 for as many as WithMaxConnections",
			c.maxConnectionsPerUser)
	case c.firstMessageTimeout < 0:
		return invalidTimeout("WithFirstMessageTimeout", c.firstMessageTimeout, "0, which is never, or more")
	case c.messageTimeout < 0:
		return invalidTimeout("WithMessageTimeout", c.messageTimeout, "0, which is never, or more")
	case c.maxReadMemory == 0 || c.maxReadMemory > math.MaxInt64/2:
		return invalidSize("WithMaxReadMemory", c.maxReadMemory, "1 byte or more")
	case c.maxSendMemorySet && (c.maxSendMemory == 0 || c.maxSendMemory > math.MaxInt64/2):
		return invalidSize("WithMaxSendMemory", c.maxSendMemory, "1 byte or more")
	case c.maxRedeliveries < 0:
		return fmt.Errorf("udsipc: WithMaxRedeliveries(%d): want 0 or more", c.maxRedeliveries)
	case c.maxWriterStates < 1:
		return fmt.Errorf("udsipc: WithMaxWriterStates(%d): want 1 or more", c.maxWriterStates)
	case c.writerRetention <= 0:
		return invalidTimeout("WithWriterRetention", c.writerRetention, "more than 0")
	case c.statusInterval != 0 && c.statusInterval < systemd.MinStatusInterval:
		return invalidTimeout("WithStatusInterval", c.statusInterval, "0, which is never, or 100 ms or more")
	}
	return nil
}

// inLimits are those of each connection.
func (c *readerConfig) inLimits() transport.Limits {
	return transport.Limits{
		MaxMessageSize: c.maxMessageSize, ReadSize: int(c.readBufferSize), IdleTimeout: c.inactivityTimeout,
		FirstMessageTimeout: c.firstMessageTimeout, MessageTimeout: c.messageTimeout,
	}
}
