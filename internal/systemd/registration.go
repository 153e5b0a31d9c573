// SPDX-License-Identifier: Apache-2.0

package systemd

// This file has the notifications of one server, from its start to its end.

import (
	"errors"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// A supervisedServer accepts connections and calls handlers. Its methods may be called by any
// goroutine.
type supervisedServer interface {
	// Activity returns the current activity of the server.
	Activity() Activity
	// HungConns checks the handlers. It returns the connections whose handlers hang since the last
	// check, and the number of all hung handlers.
	HungConns(now time.Time, limit time.Duration) (found []string, total int)
	// IsAlive reports whether the accept loop responds in time.
	IsAlive(within time.Duration) bool
	IsStopping() bool
	Report(op, where string, err error)
}

// A NotifyConfig configures the notifications of a server.
type NotifyConfig struct {
	AddrText       string        // The address, for errors.
	Disabled       bool          // Send nothing for this server.
	WithoutReady   bool          // Do not send READY=1.
	StatusInterval time.Duration // 0: no status.
	HungTimeout    time.Duration // How long a handler may take; 0: the watchdog interval; negative: no limit.
}

// A Registration is the part of one server in the notifications. Without NOTIFY_SOCKET its methods
// do nothing.
type Registration struct {
	server    supervisedServer
	cfg       NotifyConfig
	err       error // An error of the watchdog variables; set by Register.
	hungCount int   // Hung handlers at the last check. Used by the notifier's goroutine only.
}

// NewRegistration returns a registration that is not yet registered.
func NewRegistration(server supervisedServer, cfg NotifyConfig) *Registration {
	return &Registration{server: server, cfg: cfg}
}

// isDisabled reports whether no notifications are sent for the server.
func (r *Registration) isDisabled() bool {
	_, err := notifyAddress()
	return r.cfg.Disabled || errors.Is(err, errNoNotifySocket)
}

// Register adds the server to the notifier, before the server listens. Ready returns an error of
// it.
func (r *Registration) Register() {
	if r.isDisabled() {
		return
	}
	var watchdog time.Duration
	watchdog, r.err = watchdogInterval()
	systemdNotifier.add(r, watchdog)
}

// Ready sends that the server is ready.
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

// Stopping sends that the service stops, if no other server goes on.
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

// Failed sends the error with which the server ended by itself.
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

// Unregister removes a server that has ended.
func (r *Registration) Unregister() { systemdNotifier.remove(r) }
