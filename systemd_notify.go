// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file tells systemd how the service is (sd_notify(3)): one datagram of lines for each message. What a
// Reader says by itself, and when, is in supervise.go.

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What is said.
const (
	notifyReady    = "READY=1"
	notifyStopping = "STOPPING=1"
	notifyAlive    = "WATCHDOG=1"
	notifyBarrier  = "BARRIER=1"
	notifyStore    = "FDSTORE=1"
	notifyRemove   = "FDSTOREREMOVE=1"
	notifyReload   = "RELOADING=1"
)

const (
	notifyTimeout = 5 * time.Second // How long systemd may take to make room for a message.
	crowdedPause  = time.Millisecond
)

// errNotSupervised is why nothing is said: NOTIFY_SOCKET is not set.
var errNotSupervised = errors.New("systemd does not listen to this process: NOTIFY_SOCKET is not set (Type=notify, systemd.service(5))")

// Notify tells systemd how this service is: each state is an assignment, such as "READY=1" or
// "STATUS=reading the index" (sd_notify(3)). A Reader says by itself that it is ready, is stopping, lives, and what
// it does; Notify is for what only the program knows. It does nothing in a process that was not asked to
// (NOTIFY_SOCKET is not set), and returns an error if a state has a line break or no "=", or if nobody takes the
// message, for which it waits up to 5 s.
func Notify(state ...string) error {
	for _, assignment := range state {
		if name, _, found := strings.Cut(assignment, "="); !found || name == "" || strings.Contains(assignment, "\n") {
			return asOpError(OpNotify, "", fmt.Errorf("%q is not one line of the form NAME=value", assignment))
		}
	}
	err := notify(nil, state...)
	if errors.Is(err, errNotSupervised) {
		return nil
	}
	return asOpError(OpNotify, os.Getenv("NOTIFY_SOCKET"), err)
}

// NotifyReloading tells systemd that the service reads its configuration again, and since when
// (RELOADING=1 and MONOTONIC_USEC=, sd_notify(3)). Type=notify-reload wants it after each SIGHUP. Say
// Notify("READY=1") when that is done.
func NotifyReloading() error {
	state := []string{notifyReload}
	if now, ok := monotonic(); ok {
		state = append(state, "MONOTONIC_USEC="+strconv.FormatInt(now.Microseconds(), 10))
	}
	return Notify(state...)
}

// notifyAddress is where systemd listens.
func notifyAddress() (*net.UnixAddr, error) {
	name := os.Getenv("NOTIFY_SOCKET")
	switch {
	case name == "":
		return nil, errNotSupervised
	case len(name) > 1 && (name[0] == '/' || name[0] == '@'):
		return &net.UnixAddr{Name: name, Net: "unixgram"}, nil
	}
	return nil, fmt.Errorf("NOTIFY_SOCKET is %q, neither an absolute path nor an @name", name)
}

// notify sends one message, with a descriptor if there is one (unix(7), SCM_RIGHTS).
func notify(what descriptor, state ...string) error {
	address, err := notifyAddress()
	if err != nil {
		return err
	}
	// A connected one would not take descriptors (net, UnixConn.WriteMsgUnix). It gets a name of no meaning (unix(7),
	// autobind).
	conn, err := net.ListenUnixgram(address.Net, &net.UnixAddr{Net: address.Net})
	if err != nil {
		return err
	}
	defer conn.Close()
	message := []byte(strings.Join(state, "\n"))
	if what == nil {
		return sendNotification(conn, address, message, nil)
	}
	raw, err := what.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	err = raw.Control(func(fd uintptr) { // It cannot be closed in here, and its number be another's.
		sendErr = sendNotification(conn, address, message, unixRights(fd))
	})
	return firstError(sendErr, err)
}

func sendNotification(conn *net.UnixConn, to *net.UnixAddr, message, rights []byte) error {
	deadline := time.Now().Add(notifyTimeout)
	if err := conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	for {
		_, _, err := conn.WriteMsgUnix(message, rights, to)
		if !errors.Is(err, errTooManyReferences) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(crowdedPause) // Too many descriptors are under way (unix(7)); systemd takes them.
	}
}

// barrier waits until systemd has dealt with everything that was said before (sd_notify_barrier(3)): it gets
// the writing end of a pipe, and closes it then. Without that a message counts for nothing once its
// sender has ended.
func barrier() error {
	reading, writing, err := os.Pipe()
	if err != nil {
		return err
	}
	defer reading.Close()
	if err := firstError(notify(writing, notifyBarrier), writing.Close()); err != nil {
		return err
	}
	if err := reading.SetReadDeadline(time.Now().Add(notifyTimeout)); err != nil {
		return err
	}
	if _, err := reading.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("systemd has not answered within %v (sd_notify_barrier(3)): %w", notifyTimeout, err)
	}
	return nil // The end of the file.
}

// A descriptor is what has one: a socket, or a file.
type descriptor interface {
	SyscallConn() (syscall.RawConn, error)
}

// watchdogInterval is how often systemd wants to hear from this process; 0 for never
// (sd_watchdog_enabled(3)).
func watchdogInterval() (time.Duration, error) {
	text := os.Getenv("WATCHDOG_USEC")
	return parseWatchdog(os.Getpid(), text, os.Getenv("WATCHDOG_PID"))
}

// parseWatchdog reads the two variables for process pid.
func parseWatchdog(pid int, interval, meant string) (time.Duration, error) {
	if interval == "" {
		return 0, nil
	}
	if meant != "" {
		number, err := strconv.Atoi(meant)
		if err != nil || number <= 0 {
			return 0, fmt.Errorf("WATCHDOG_PID is %q, not the number of a process", meant)
		}
		if number != pid {
			return 0, nil
		}
	}
	usec, err := strconv.ParseUint(interval, 10, 64)
	if err != nil || usec == 0 || usec > uint64(maxWatchdog/time.Microsecond) {
		return 0, fmt.Errorf("WATCHDOG_USEC is %q, not a number of microseconds", interval)
	}
	return time.Duration(usec) * time.Microsecond, nil
}

// maxWatchdog is longer than anybody waits.
const maxWatchdog = 100 * 365 * 24 * time.Hour
