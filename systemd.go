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
func Notify(state ...string) error { return public(tell(state...)) }

// NotifyReloading tells systemd that the service reads its configuration again, and since when
// (RELOADING=1 and MONOTONIC_USEC=, sd_notify(3)). Type=notify-reload wants it after each SIGHUP. Say
// Notify("READY=1") when that is done.
func NotifyReloading() error { return public(tellReloading()) }

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

// WithSystemdName takes the socket that systemd passed under this name (FileDescriptorName=,
// systemd.socket(5)). A process that systemd did not activate uses the address. It is also the name
// under which HandOver leaves what the next process takes; that is the address by default.
func WithSystemdName(name string) ReaderOption {
	return readerOption(func(c *readerConfig) { c.systemdName = name })
}

// WithoutSystemd never takes a socket from systemd, and tells it nothing.
func WithoutSystemd() ReaderOption {
	return readerOption(func(c *readerConfig) { c.withoutSystemd = true })
}

// WithoutNotifications tells systemd nothing, although NOTIFY_SOCKET is set: for a program that does that
// itself, its watchdog included.
func WithoutNotifications() ReaderOption {
	return readerOption(func(c *readerConfig) { c.withoutNotifications = true })
}

// WithoutReady leaves READY=1 to the program, which says Notify("READY=1") once it is: for one that has more to
// do at its start than to listen, several Readers for instance.
func WithoutReady() ReaderOption {
	return readerOption(func(c *readerConfig) { c.withoutReady = true })
}

// WithStatusInterval sets how often systemd is told what the Reader does (STATUS=, which systemctl status
// shows); the default is 5 s, and 0 is never. Of several Readers in a process the shortest counts. Less
// than 100 ms is an error.
func WithStatusInterval(d time.Duration) ReaderOption {
	return readerOption(func(c *readerConfig) { c.statusInterval = d })
}

// WithStuckAfter sets how long a handler may take for one message until it counts as stuck; the default, 0, is the
// interval of systemd's watchdog (WatchdogSec=, systemd.service(5)), and without a watchdog none ever is. While a
// handler is stuck, the watchdog is not told that the process lives, so that systemd ends it. A
// negative one is an error. It is for a Reader: a Listener, and what is built on one, refuses it, because there the
// watchdog knows of no handlers.
func WithStuckAfter(d time.Duration) ReaderOption {
	return readerOption(func(c *readerConfig) { c.stuckAfter = d })
}
