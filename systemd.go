// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what a program in a service of systemd can say to it and ask of it, and what can be set of a Reader
// there. Without any of it, a Reader takes the socket that it gets, and says how it is if it is asked to.

import "time"

// Notify tells systemd how this service is: each state is an assignment, such as "READY=1" or
// "STATUS=reading the index" (sd_notify(3)). A Reader says by itself that it is ready, is stopping, lives, and what
// it does; Notify is for what only the program knows. It does nothing in a process that was not asked to
// (NOTIFY_SOCKET is not set), and returns an error if a state has a line break or no "=", or if nobody takes the
// message, for which it waits up to 5 s.
func Notify(state ...string) error { return public(notify(state...)) }

// NotifyReloading tells systemd that the service reads its configuration again, and since when
// (RELOADING=1 and MONOTONIC_USEC=, sd_notify(3)). Type=notify-reload wants it after each SIGHUP. Say
// Notify("READY=1") when that is done.
func NotifyReloading() error { return public(notifyReloading()) }

// A PassedDescriptor is a descriptor that systemd passed to this process.
type PassedDescriptor struct {
	FD   int    // Its number; it is open, and closed in children.
	Name string // FileDescriptorName= (systemd.socket(5)), FDNAME= (sd_notify(3)), or "unknown".
}

// PassedDescriptors returns those descriptors that systemd passed to this process and that no Reader
// has taken, or that were given back by a Reader that stopped. They belong to the program: call it once all Readers
// are started, and report or Close what should not be there. Connections among them are those that HandOver left for
// a Reader of another name or address; nobody reads them, and their writers wait. It returns none in a
// process that systemd did not start, and an error if what systemd says makes no sense.
func PassedDescriptors() ([]PassedDescriptor, error) {
	unclaimed, err := unclaimedDescriptors()
	var list []PassedDescriptor
	for _, d := range unclaimed {
		list = append(list, PassedDescriptor(d))
	}
	return list, asOpError(OpActivate, "", err)
}

// Close closes the descriptor, and has systemd forget it if it is in its store (FDSTOREREMOVE=1, sd_notify(3)). It
// does nothing if a Reader has taken the descriptor since, or it is closed already.
func (d PassedDescriptor) Close() error {
	return asOpError(OpActivate, d.Name, closeUnclaimed(d.FD, d.Name))
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

// WithStuckAfter sets how long a handler may take for one message before it counts as hung. The
// default, 0, is systemd's watchdog interval (WatchdogSec=, systemd.service(5)); without a watchdog
// there is no limit. A hung handler stops the keep-alive pings, so systemd kills the service. A
// negative duration is an error. A Listener rejects it: there the watchdog cannot observe handlers.
func WithStuckAfter(d time.Duration) ReaderOption {
	return readerOption(func(c *readerConfig) { c.stuckAfter = d })
}
