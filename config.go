// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what was set: the defaults, and the checks of all values together, once, so that an
// error can name the option and the value.

import (
	"context"
	"crypto/tls"
	"fmt"
	"io/fs"
	"math"
	"net"
	"time"
)

// What a Conn has of Dial as well.
const (
	defaultReadBuffer     = 256 << 10
	defaultReadMemory     = 64 << 20
	defaultSendMemory     = 128 << 20
	defaultMessageTimeout = 30 * time.Second
)

type sharedConfig struct {
	address          address
	where            string // The address as it was given, for errors.
	maxMessageSize   uint64
	peerTimeout      time.Duration
	authorizer       func(Peer) error
	authorizerSet    bool
	tls              *tls.Config
	tlsSet           bool
	plaintext        bool
	handshakeTimeout time.Duration

	// Of what is sent.
	maxBufferedWrites uint64
	maxBufferedBytes  uint64
	writeTimeout      time.Duration
	stallTimeout      time.Duration // 0: never.
	overflow          OverflowPolicy
	overflowSet       bool
	sending           string // The last option of these that was set.
}

// queueBytes is the bound of a conversation's queue: the largest message always fits.
func (c *sharedConfig) queueBytes() uint64 {
	return max(c.maxBufferedBytes, c.maxMessageSize+maxHeaderRoom)
}

// queueLimits are those of a conversation's queue.
func (c *sharedConfig) queueLimits() queueLimits {
	return queueLimits{
		messages: c.maxBufferedWrites, bytes: c.queueBytes(), dropOldest: c.overflow == OverflowDropOldest,
	}
}

// sharedDefaults are those of both sides.
func sharedDefaults(text string) sharedConfig {
	return sharedConfig{
		where: text, maxMessageSize: 10 << 20, peerTimeout: 10 * time.Second, handshakeTimeout: 5 * time.Second,
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
	onError          ErrorCallback
	onState          func(state State, cause error)
	undelivered      func(data []byte)
	dialer           func(ctx context.Context) (net.Conn, error)
}

type readerConfig struct {
	sharedConfig
	inactivityTimeout     time.Duration
	readBufferSize        uint32
	maxAcceptErrors       int
	maxConnections        int
	maxConnectionsPerUser int // 0: as many as maxConnections.
	firstMessageTimeout   time.Duration
	messageTimeout        time.Duration
	readMemory            uint64
	sendMemory            uint64
	sendMemorySet         bool
	maxRedeliveries       int
	deadLetter            func(d *Delivery, err error)
	maxWriters            int
	writerMemory          time.Duration
	socketMode            fs.FileMode
	socketModeSet         bool
	socketUID             int
	socketGID             int
	systemdName           string
	withoutSystemd        bool
	withoutNotifications  bool
	withoutReady          bool
	statusInterval        time.Duration // 0: never.
	stuckAfter            time.Duration // 0: as systemd's watchdog has it.
	listener              net.Listener
	listenerSet           bool
	onError               ErrorCallback
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
	switch {
	case c.writeBufferSize > math.MaxInt32/2:
		return c, invalidSize("WithWriteBufferSize", uint64(c.writeBufferSize), "at most 1 GiB")
	case c.dialTimeout <= 0:
		return c, invalidTimeout("WithDialTimeout", c.dialTimeout, "more than 0")
	case c.maxBackoff <= 0:
		return c, invalidTimeout("WithMaxBackoff", c.maxBackoff, "more than 0")
	case c.maxAge < 0:
		return c, invalidTimeout("WithMaxAge", c.maxAge, "0, which is off, or more")
	case c.tlsSet && c.tls.ServerName == "" && !c.tls.InsecureSkipVerify && c.address.host() == "":
		return c, fmt.Errorf("udsipc: WithTLS for %q: set the configuration's ServerName, the name in the reader's certificate", text)
	case c.dialer == nil:
		return c, c.checkPlaintext(text)
	}
	return c, nil
}

func newReaderConfig(text string, opts []ReaderOption) (readerConfig, error) {
	c := readerConfig{
		sharedConfig:        sharedDefaults(text),
		inactivityTimeout:   10 * time.Second,
		readBufferSize:      defaultReadBuffer,
		maxAcceptErrors:     10,
		maxConnections:      1024,
		firstMessageTimeout: 10 * time.Second,
		messageTimeout:      defaultMessageTimeout,
		readMemory:          defaultReadMemory,
		maxRedeliveries:     3,
		maxWriters:          4096,
		writerMemory:        time.Hour,
		statusInterval:      5 * time.Second,
		socketMode:          0o600,
		socketUID:           -1,
		socketGID:           -1,
	}
	for _, opt := range opts {
		if opt != nil {
			opt.applyReader(&c)
		}
	}
	if err := c.check(text); err != nil {
		return c, err
	}
	switch {
	case c.inactivityTimeout < 0:
		return c, invalidTimeout("WithInactivityTimeout", c.inactivityTimeout, "0, which is never, or more")
	case c.readBufferSize == 0 || c.readBufferSize > maxMessageLimit:
		return c, invalidSize("WithReadBufferSize", uint64(c.readBufferSize), "1 byte to 1 GiB")
	case c.maxAcceptErrors < 0:
		return c, fmt.Errorf("udsipc: WithMaxAcceptErrors(%d): want 0 or more", c.maxAcceptErrors)
	case c.maxConnections < 1:
		return c, fmt.Errorf("udsipc: WithMaxConnections(%d): want 1 or more", c.maxConnections)
	case c.socketMode&^0o777 != 0 || c.socketMode == 0:
		return c, fmt.Errorf("udsipc: WithSocketMode(%#o): want permission bits, 0001 to 0777", uint32(c.socketMode))
	case c.socketUID < -1 || c.socketGID < -1:
		return c, fmt.Errorf("udsipc: WithSocketOwner(%d, %d): want ids, or -1 to leave one as it is", c.socketUID, c.socketGID)
	case (c.socketModeSet || c.listenSpec().ownerSet()) && (c.listener != nil || !c.address.isFile()):
		return c, fmt.Errorf("udsipc: WithSocketMode(%#o), WithSocketOwner(%d, %d): %q has no socket file that this Reader makes; use WithAuthorizer or WithTLS",
			uint32(c.socketMode), c.socketUID, c.socketGID, text)
	case c.listenerSet && c.listener == nil:
		return c, fmt.Errorf("udsipc: WithListener(nil): want a listener")
	case c.withoutSystemd && c.systemdName != "":
		return c, fmt.Errorf("udsipc: WithSystemdName(%q) and WithoutSystemd contradict each other", c.systemdName)
	}
	if err := c.checkLimits(); err != nil {
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
func (c *readerConfig) server(memory *budget) serverConfig {
	return serverConfig{
		where: c.where,

		listener: c.listener, systemdName: c.systemdName, withoutSystemd: c.withoutSystemd,
		checkPassed: c.checkPassed, socket: c.listenSpec(), storeKey: c.storeKey(),

		maxAcceptErrors: c.maxAcceptErrors, maxConnections: c.maxConnections, maxConnectionsPerUser: c.maxConnectionsPerUser,
		maxWriters: c.maxWriters, writerMemory: c.writerMemory, maxRedeliveries: c.maxRedeliveries,
		peerTimeout: c.peerTimeout, handshakeTimeout: c.handshakeTimeout,

		in: c.inLimits(), memory: memory, tls: c.tls, authorizer: authorizePeer(c.authorizer),

		report: c.onError.report,

		notify: notifyConfig{
			where: c.where, silent: c.withoutSystemd || c.withoutNotifications, withoutReady: c.withoutReady,
			statusInterval: c.statusInterval, stuckAfter: c.stuckAfter,
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

// newMemory returns the budget of all read buffers together.
func (c *readerConfig) newMemory() *budget { return &budget{limit: int64(c.readMemory)} }

// sendLimit is the bound of all queues of a Listener together.
func (c *readerConfig) sendLimit() int64 {
	if c.sendMemorySet {
		return int64(c.sendMemory)
	}
	return int64(max(defaultSendMemory, 2*min(c.queueBytes(), math.MaxInt64/4)))
}

// listenSpec is what the listener is to be like.
func (c *readerConfig) listenSpec() listenSpec {
	return listenSpec{address: c.address, mode: c.socketMode, uid: c.socketUID, gid: c.socketGID}
}

// checkLimits is for what a Reader puts up with.
func (c *readerConfig) checkLimits() error {
	switch {
	case c.maxConnectionsPerUser < 0:
		return fmt.Errorf("udsipc: WithMaxConnectionsPerUser(%d): want 1 or more, or 0 for as many as WithMaxConnections", c.maxConnectionsPerUser)
	case c.firstMessageTimeout < 0:
		return invalidTimeout("WithFirstMessageTimeout", c.firstMessageTimeout, "0, which is never, or more")
	case c.messageTimeout < 0:
		return invalidTimeout("WithMessageTimeout", c.messageTimeout, "0, which is never, or more")
	case c.readMemory == 0 || c.readMemory > math.MaxInt64/2:
		return invalidSize("WithReadMemory", c.readMemory, "1 byte or more")
	case c.sendMemorySet && (c.sendMemory == 0 || c.sendMemory > math.MaxInt64/2):
		return invalidSize("WithSendMemory", c.sendMemory, "1 byte or more")
	case c.maxRedeliveries < 0:
		return fmt.Errorf("udsipc: WithMaxRedeliveries(%d): want 0 or more", c.maxRedeliveries)
	case c.maxWriters < 1:
		return fmt.Errorf("udsipc: WithMaxWriters(%d): want 1 or more", c.maxWriters)
	case c.writerMemory <= 0:
		return invalidTimeout("WithWriterMemory", c.writerMemory, "more than 0")
	case c.statusInterval != 0 && c.statusInterval < minStatusInterval:
		return invalidTimeout("WithStatusInterval", c.statusInterval, "0, which is never, or 100 ms or more")
	case c.stuckAfter < 0:
		return invalidTimeout("WithStuckAfter", c.stuckAfter, "0, which is as long as the watchdog's interval, or more")
	}
	return nil
}

// check is for what both sides have.
func (c *sharedConfig) check(text string) error {
	var err error
	if c.address, err = parseAddress(text); err != nil {
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
	case c.tlsSet && c.plaintext:
		return fmt.Errorf("udsipc: WithTLS and WithPlaintext contradict each other")
	case c.handshakeTimeout <= 0:
		return invalidTimeout("WithHandshakeTimeout", c.handshakeTimeout, "more than 0")
	}
	if c.tlsSet {
		c.tls = withLeastTLS(c.tls)
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
	case c.peerTimeout != 0 && c.peerTimeout < minSilence:
		return invalidTimeout("WithPeerTimeout", c.peerTimeout, "0, which is never, or 100 ms or more")
	}
	return nil
}

// checkPlaintext refuses what would go over a network for everybody to read.
func (c *sharedConfig) checkPlaintext(text string) error {
	if c.tlsSet || c.plaintext {
		return nil
	}
	if c.address = c.address.keptOnMachine(); c.address.loopback() {
		return nil
	}
	return fmt.Errorf("%w: %q is not a loopback address; use WithTLS, or WithPlaintext if everybody on the way may read and write", ErrPlaintext, text)
}

// checkPassed is checkPlaintext for a socket that systemd passed, which need not be at the address.
func (c *sharedConfig) checkPassed(at net.Addr) error {
	tcp, ok := at.(*net.TCPAddr)
	if !ok || c.tlsSet || c.plaintext || tcp.IP.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%w: systemd passed a socket at %v, which is not a loopback address; use WithTLS, or WithPlaintext if everybody on the way may read and write", ErrPlaintext, tcp)
}

// withLeastTLS returns a copy of config that asks for TLS 1.3 at least, unless config names another version.
// So do the configurations that it chooses for single clients.
func withLeastTLS(config *tls.Config) *tls.Config {
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
			return withLeastTLS(chosen), nil
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

// inLimits are those of each connection.
func (c *readerConfig) inLimits() inLimits {
	return inLimits{
		maxMessageSize: c.maxMessageSize, readSize: int(c.readBufferSize), idleTimeout: c.inactivityTimeout,
		firstMessageTimeout: c.firstMessageTimeout, messageTimeout: c.messageTimeout,
	}
}
