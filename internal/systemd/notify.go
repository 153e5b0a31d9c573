// SPDX-License-Identifier: Apache-2.0

package systemd

// This file tells systemd how the service is (sd_notify(3)): one datagram of lines for each message. What a
// Reader says by itself, and when, is in notifier.go.

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
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
	busyPause     = time.Millisecond
)

// errNoNotifySocket is why nothing is said: NOTIFY_SOCKET is not set.
var errNoNotifySocket = errors.New(
	"systemd does not listen to this process: NOTIFY_SOCKET is not set (Type=notify, systemd.service(5))")

// Notify tells systemd how the service is: each state is an assignment. It does nothing if systemd does not listen.
func Notify(state ...string) error {
	for _, assignment := range state {
		if name, _, found := strings.Cut(assignment, "="); !found || name == "" || strings.Contains(assignment, "\n") {
			return errdefs.WithOp(errdefs.OpNotify, "", fmt.Errorf("%q is not one line of the form NAME=value", assignment))
		}
	}
	err := sendState(nil, state...)
	if errors.Is(err, errNoNotifySocket) {
		return nil
	}
	return errdefs.WithOp(errdefs.OpNotify, os.Getenv("NOTIFY_SOCKET"), err)
}

// NotifyReloading tells systemd that the service reads its configuration again, and since when.
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
		return nil, errNoNotifySocket
	case len(name) > 1 && (name[0] == '/' || name[0] == '@'):
		return &net.UnixAddr{Name: name, Net: "unixgram"}, nil
	}
	return nil, fmt.Errorf("NOTIFY_SOCKET is %q, neither an absolute path nor an @name", name)
}

// sendState sends one message, with a descriptor if there is one (unix(7), SCM_RIGHTS).
func sendState(what syscall.Conn, state ...string) error {
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
	return errdefs.First(sendErr, err)
}

func sendNotification(conn *net.UnixConn, address *net.UnixAddr, message, rights []byte) error {
	deadline := time.Now().Add(notifyTimeout)
	if err := conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	for {
		_, _, err := conn.WriteMsgUnix(message, rights, address)
		if !errors.Is(err, errTooManyReferences) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(busyPause) // Too many descriptors are under way (unix(7)); systemd takes them.
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
	if err := errdefs.First(sendState(writing, notifyBarrier), writing.Close()); err != nil {
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
