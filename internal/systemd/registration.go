// SPDX-License-Identifier: Apache-2.0

package systemd

// This file is the share of one server in the notifications, from its start to its end.

import (
	"errors"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// A supervisedServer accepts connections and hands what comes to handlers. It may be asked by any goroutine.
type supervisedServer interface {
	// Activity returns what the server does.
	Activity() Activity
	// HungConns checks the handlers. It returns the connections of those that were found to hang since the last check,
	// and how many hang in all.
	HungConns(now time.Time, limit time.Duration) (found []string, total int)
	// IsAlive reports whether the accept loop responds in time.
	IsAlive(within time.Duration) bool
	IsStopping() bool
	Report(op, where string, err error)
}

// A NotifyConfig is what systemd is told of a server.
type NotifyConfig struct {
	AddrText       string        // The address, for errors.
	Disabled       bool          // Nothing.
	WithoutReady   bool          // Not that it is ready.
	StatusInterval time.Duration // 0: never what it does.
	HungTimeout    time.Duration // How long a handler may take; 0: the interval of the watchdog.
}

// A Registration is the share of one server in what systemd is told. Its methods do nothing if systemd does not listen.
type Registration struct {
	server    supervisedServer
	cfg       NotifyConfig
	err       error // What is wrong with the watchdog's variables; set by Register.
	hungCount int   // Handlers that hang, at the last check. It belongs to the goroutine of the notifier.
}

// NewRegistration returns the registration of a server, which Register begins.
func NewRegistration(server supervisedServer, cfg NotifyConfig) *Registration {
	return &Registration{server: server, cfg: cfg}
}

// isDisabled reports whether systemd is to know nothing of the server.
func (r *Registration) isDisabled() bool {
	_, err := notifyAddress()
	return r.cfg.Disabled || errors.Is(err, errNoNotifySocket)
}

// Register adds the server to the notifier, before it listens. Ready reports an error.
func (r *Registration) Register() {
	if r.isDisabled() {
		return
	}
	var watchdog time.Duration
	watchdog, r.err = watchdogInterval()
	systemdNotifier.add(r, watchdog)
}

// Ready says that the server is ready.
func (r *Registration) Ready() {
	if r.isDisabled() {
		return
	}
	if r.err != nil {
		r.server.Report(errdefs.OpWatchdog, r.cfg.AddrText, r.err)
	}
	if !r.cfg.WithoutReady && !r.server.IsStopping() {
		systemdNotifier.send(notifyReady)
	}
}

// Stopping says that the server stops, if no other goes on.
func (r *Registration) Stopping() {
	if r.isDisabled() {
		return
	}
	going := 0
	for _, other := range systemdNotifier.snapshot() {
		if !other.server.IsStopping() {
			going++
		}
	}
	if going == 0 {
		systemdNotifier.send(notifyStopping)
	}
	systemdNotifier.wake()
}

// Failed says why the server ended by itself.
func (r *Registration) Failed(cause error) {
	if r.isDisabled() {
		return
	}
	state := []string{"STATUS=" + strings.ReplaceAll(cause.Error(), "\n", " ")}
	if errno := syscall.Errno(0); errors.As(cause, &errno) {
		state = append(state, "ERRNO="+strconv.Itoa(int(errno)))
	}
	systemdNotifier.send(state...)
}

// Unregister forgets the server, which has ended.
func (r *Registration) Unregister() { systemdNotifier.remove(r) }
