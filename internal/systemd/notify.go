// SPDX-License-Identifier: Apache-2.0

package systemd

// This file sends the notifications of sd_notify(3): one datagram of lines each. notifier.go
// decides which ones a Reader sends, and when.

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

// The notifications.
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
	notifyTimeout = 5 * time.Second // How long to wait for room in systemd's socket.
	busyPause     = time.Millisecond
)

// errNoNotifySocket is returned if NOTIFY_SOCKET is not set.
var errNoNotifySocket = errors.New(
	"systemd does not listen to this process: NOTIFY_SOCKET is not set (Type=notify, systemd.service(5))")

// Notify sends the state of the service to systemd; each element is an assignment. Without
// NOTIFY_SOCKET it does nothing.
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

// NotifyReloading notifies systemd that the service reloads its configuration, with the current
// time.
func NotifyReloading() error {
	state := []string{notifyReload}
	if now, ok := monotonic(); ok {
		state = append(state, "MONOTONIC_USEC="+strconv.FormatInt(now.Microseconds(), 10))
	}
	return Notify(state...)
}

// notifyAddress returns the address of NOTIFY_SOCKET.
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

// sendState sends one datagram, with a descriptor unless passed is nil (unix(7), SCM_RIGHTS).
func sendState(passed syscall.Conn, state ...string) error {
	address, err := notifyAddress()
	if err != nil {
		return err
	}
	// A connected socket cannot send descriptors (net, UnixConn.WriteMsgUnix). This one gets a
	// random name (unix(7), autobind).
	conn, err := net.ListenUnixgram(address.Net, &net.UnixAddr{Net: address.Net})
	if err != nil {
		return err
	}
	defer conn.Close()
	message := []byte(strings.Join(state, "\n"))
	if passed == nil {
		return sendNotification(conn, address, message, nil)
	}
	raw, err := passed.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	err = raw.Control(func(fd uintptr) { // Within Control the descriptor stays open, so its number stays valid.
		sendErr = sendNotification(conn, address, message, unixRights(fd))
	})
	return errdefs.First(sendErr, err)
}

// sendNotification tries until systemd has room. It does not wait for the socket to be writable: that
// tells of this socket, not of systemd's, so such a wait would be a busy one.
func sendNotification(conn *net.UnixConn, address *net.UnixAddr, message, rights []byte) error {
	for deadline := time.Now().Add(notifyTimeout); ; time.Sleep(busyPause) {
		err := sendDatagram(conn, address, message, rights)
		switch {
		case !isBusy(err):
			return err
		case time.Now().After(deadline):
			return fmt.Errorf("systemd has not received within %v: %w", notifyTimeout, err)
		}
	}
}

// barrier waits until systemd has processed all earlier notifications (sd_notify_barrier(3)): it
// sends the write end of a pipe, which systemd then closes. Without a barrier, systemd ignores
// notifications of a process that has ended.
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
	return nil // EOF: systemd has closed the pipe.
}
