// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the life of one server as systemd hears of it.

import (
	"errors"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A supervisedServer accepts connections and hands what comes to handlers. It may be asked by any goroutine.
type supervisedServer interface {
	// activity returns what the server does.
	activity() activity
	// hungConns looks at the handlers. It returns where those work that have turned out to be stuck since the last look,
	// and how many are stuck in all.
	hungConns(now time.Time, limit time.Duration) (found []string, total int)
	// isAlive reports whether the goroutine that accepts connections responds in time.
	isAlive(within time.Duration) bool
	isStopping() bool
	report(op, where string, err error)
}

// A notifyConfig is what systemd is told of a server.
type notifyConfig struct {
	addrText       string        // The address, for errors.
	disabled       bool          // Nothing.
	withoutReady   bool          // Not that it is ready.
	statusInterval time.Duration // 0: never what it does.
	hungTimeout    time.Duration // How long a handler may take; 0: the interval of the watchdog.
}

// A registration is the share of one server in what systemd is told. Its methods do nothing if systemd does not listen.
type registration struct {
	server    supervisedServer
	cfg       notifyConfig
	err       error // What is wrong with the watchdog's variables; set by register.
	hungCount int   // Handlers that are stuck, when last looked at. It belongs to the goroutine of the supervisor.
}

func newRegistration(server supervisedServer, cfg notifyConfig) *registration {
	return &registration{server: server, cfg: cfg}
}

// isDisabled reports whether systemd is to know nothing of the server.
func (r *registration) isDisabled() bool {
	_, err := notifyAddress()
	return r.cfg.disabled || errors.Is(err, errNoNotifySocket)
}

// register has systemd hear of the server from now on, before it does anything. An error is reported by ready.
func (r *registration) register() {
	if r.isDisabled() {
		return
	}
	var watchdog time.Duration
	watchdog, r.err = watchdogInterval()
	systemdNotifier.add(r, watchdog)
}

// ready says that the server is ready.
func (r *registration) ready() {
	if r.isDisabled() {
		return
	}
	if r.err != nil {
		r.server.report(opWatchdog, r.cfg.addrText, r.err)
	}
	if !r.cfg.withoutReady && !r.server.isStopping() {
		systemdNotifier.send(notifyReady)
	}
}

// stopping says that the server stops, if no other goes on.
func (r *registration) stopping() {
	if r.isDisabled() {
		return
	}
	going := 0
	for _, other := range systemdNotifier.snapshot() {
		if !other.server.isStopping() {
			going++
		}
	}
	if going == 0 {
		systemdNotifier.send(notifyStopping)
	}
	systemdNotifier.wake()
}

// failed says why the server ended by itself.
func (r *registration) failed(why error) {
	if r.isDisabled() {
		return
	}
	state := []string{"STATUS=" + strings.ReplaceAll(why.Error(), "\n", " ")}
	if errno := syscall.Errno(0); errors.As(why, &errno) {
		state = append(state, "ERRNO="+strconv.Itoa(int(errno)))
	}
	systemdNotifier.send(state...)
}

// unregister forgets the server, which has ended.
func (r *registration) unregister() { systemdNotifier.remove(r) }
