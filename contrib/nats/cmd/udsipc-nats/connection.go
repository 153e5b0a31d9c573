// SPDX-License-Identifier: Apache-2.0

package main

// This file is the connection to the cluster, and what systemd and the log are told.

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
)

// connect connects to the cluster, for as long as it takes. Refused credentials are tried again, too: they may
// be mended. If the connection ends for good nevertheless, failed gets an error.
func (s *settings) connect(failed chan<- error, cause *lastCause) (jetstream.JetStream, error) {
	opts := []nats.Option{
		nats.Name("udsipc-nats"), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true), nats.ReconnectWait(time.Second),
		nats.IgnoreAuthErrorAbort(), nats.PingInterval(10 * time.Second),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { cause.set(err) }), // watch tells it once.
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { cause.set(err) }),
		nats.ClosedHandler(func(nc *nats.Conn) {
			err := errors.Join(nats.ErrConnectionClosed, nc.LastError())
			select {
			case failed <- fmt.Errorf("the connection to the cluster has ended: %w", err):
			default: // run has returned, or will.
			}
		}),
	}
	if s.credentials != "" {
		if err := readable(s.credentials); err != nil {
			return nil, fmt.Errorf("-credentials: %w", err)
		}
		opts = append(opts, nats.UserCredentials(s.credentials))
	}
	if s.tlsCA != "" {
		opts = append(opts, nats.RootCAs(s.tlsCA))
	}
	if s.tlsCert != "" {
		opts = append(opts, nats.ClientCert(s.tlsCert, s.tlsKey))
	}
	nc, err := nats.Connect(s.urls, opts...)
	if err != nil {
		return nil, fmt.Errorf("-nats, -tls-ca, -tls-cert: %w", err)
	}
	return jetstream.New(nc)
}

// A lastCause is why the last try to connect has failed.
type lastCause struct{ text atomic.Pointer[string] }

func (c *lastCause) set(err error) {
	if err != nil {
		text := err.Error()
		c.text.Store(&text)
	}
}

func (c *lastCause) String() string {
	if text := c.text.Load(); text != nil {
		return *text
	}
	return "no server answers"
}

func readable(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return file.Close()
}

// watch logs that the cluster is away, with each cause once, and that it is back, until ended is closed.
func watch(nc *nats.Conn, last *lastCause, ended <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	told := make(map[string]bool) // Causes since the connection was there.
	connected, away := false, 0
	for {
		select {
		case <-tick.C:
		case <-ended:
			return
		}
		if nc.IsConnected() {
			if !connected {
				slog.Info("udsipc-nats: connected", "server", nc.ConnectedUrlRedacted())
			}
			connected, away = true, 0
			clear(told)
			continue
		}
		cause := last.String()
		if away++; away > 1 && !told[cause] && len(told) < 16 { // It may be a short cut.
			connected, told[cause] = false, true
			slog.Warn("udsipc-nats: not connected to the cluster; writers keep their messages (look at -nats, -credentials, "+
				"-tls-ca, and the servers)", "cause", cause)
		}
	}
}

// beat tells systemd that this process is ready, and that it is alive, until ended is closed. A Reader does it
// otherwise.
func (d *daemon) beat(ended <-chan struct{}) {
	notify := func(state string) {
		if err := udsipc.Notify(state); err != nil {
			slog.Warn("udsipc-nats: systemd does not listen", "state", state, "cause", err)
		}
	}
	notify("READY=1")
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	pid := os.Getenv("WATCHDOG_PID")
	if err != nil || usec <= 1 || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return // There is no watchdog.
	}
	tick := time.NewTicker(time.Duration(usec) * time.Microsecond / 2)
	defer tick.Stop()
	for {
		d.forwarder.Metrics() // It takes the lock: who hangs with it is not alive.
		notify("WATCHDOG=1")
		select {
		case <-tick.C:
		case <-ended:
			return
		}
	}
}
