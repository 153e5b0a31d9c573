// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what a program in a service of systemd can say to it and ask of it, and what can be set of a Reader
// there. Without any of it, a Reader takes the socket that it gets, and says how it is if it is asked to.

import (
	"time"

	"github.com/udsipc/udsipc/internal/systemd"
)

// Notify sends states of this service to systemd. Each state is an assignment, such as "READY=1" or
// "STATUS=reading the index" (sd_notify(3)). A Reader sends readiness, stopping, keep-alive pings
// and status itself; Notify is for states that only the program knows. It does nothing without
// NOTIFY_SOCKET. It returns an error for a state with a line break or without "=", and if systemd
// does not accept the message within 5 s.
func Notify(state ...string) error { return publicError(systemd.Notify(state...)) }

// NotifyReloading notifies systemd that the service reloads its configuration, with the time
// (RELOADING=1 and MONOTONIC_USEC=, sd_notify(3)). Type=notify-reload requires it after each
// SIGHUP. Call Notify("READY=1") when the reload is done.
func NotifyReloading() error { return publicError(systemd.NotifyReloading()) }

// A PassedDescriptor is a descriptor that systemd passed to this process.
type PassedDescriptor struct {
	FD   int    // Its number; it is open, and closed in children.
	Name string // FileDescriptorName= (systemd.socket(5)), FDNAME= (sd_notify(3)), or "unknown".
}

// PassedDescriptors returns the descriptors that systemd passed and no running Reader uses. They
// belong to the program. Call it after all Readers have started; Close those you do not expect. A
// connection in the list was stored by HandOver under another name or address: nobody reads it, and
// its writer waits. A process that systemd did not start gets none. The error reports invalid
// variables of systemd.
func PassedDescriptors() ([]PassedDescriptor, error) {
	unclaimed, err := systemd.UnclaimedDescriptors()
	var list []PassedDescriptor
	for _, d := range unclaimed {
		list = append(list, PassedDescriptor(d))
	}
	return list, asOpError(OpActivate, "", err)
}

// Close closes the descriptor, and removes it from the descriptor store if it is stored
// (FDSTOREREMOVE=1, sd_notify(3)). It does nothing if a Reader uses the descriptor, or if it is
// closed already.
func (d PassedDescriptor) Close() error {
	return asOpError(OpActivate, d.Name, systemd.CloseUnclaimed(d.FD, d.Name))
}

// WithSystemdName selects the socket that systemd passed under this name (FileDescriptorName=,
// systemd.socket(5)). A process without socket activation uses the address. HandOver stores
// descriptors under the same name; by default, under the address.
func WithSystemdName(name string) ReaderOption {
	return readerOption(func(c *readerConfig) { c.systemdName = name })
}

// WithoutSystemd makes the Reader ignore systemd: it uses no passed socket and sends no
// notification.
func WithoutSystemd() ReaderOption {
	return readerOption(func(c *readerConfig) { c.withoutSystemd = true })
}

// WithoutNotifications makes the Reader send nothing to systemd, although NOTIFY_SOCKET is set: for
// a program that sends the notifications itself, keep-alive pings included.
func WithoutNotifications() ReaderOption {
	return readerOption(func(c *readerConfig) { c.withoutNotifications = true })
}

// WithoutReady leaves READY=1 to the program, which calls Notify("READY=1"): for a program that
// starts more than one Reader, for example.
func WithoutReady() ReaderOption {
	return readerOption(func(c *readerConfig) { c.withoutReady = true })
}

// WithStatusInterval sets how often the Reader sends its status to systemd (STATUS=, shown by
// systemctl status). The default is 5 s; 0 disables it. If a process has several Readers, the
// shortest interval applies. Less than 100 ms is an error.
func WithStatusInterval(d time.Duration) ReaderOption {
	return readerOption(func(c *readerConfig) { c.statusInterval = d })
}

// WithHungTimeout sets how long a handler may take for one message or batch before it counts as hung.
// The default, 0, is systemd's watchdog interval (WatchdogSec=, systemd.service(5)); without a watchdog
// there is no limit. A hung handler stops the keep-alive pings, so systemd kills the service. A
// negative duration means never, for handlers that wait for something else; the watchdog then observes
// the rest of the Reader. A Listener rejects it: there the watchdog cannot observe handlers.
func WithHungTimeout(d time.Duration) ReaderOption {
	return readerOption(func(c *readerConfig) { c.hungTimeout = d })
}
