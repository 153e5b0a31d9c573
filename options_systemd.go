// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what can be set of a Reader in a service of systemd. Without any of it, a Reader takes
// the socket that it gets, and says how it is if it is asked to.

import "time"

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
