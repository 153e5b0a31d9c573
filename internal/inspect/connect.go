// SPDX-License-Identifier: Apache-2.0

package inspect

// This file connects, and tells what a failure means.

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/udsipc/udsipc/internal/peercred"
)

// dial connects, within the time for a connection.
func (s *subject) dial() (net.Conn, error) {
	dialer := net.Dialer{Timeout: s.Within}
	return dialer.DialContext(s.ctx, s.network, s.name)
}

// examineConnect connects once. It returns whether somebody listens and this user may connect.
func (s *subject) examineConnect() bool {
	conn, err := s.dial()
	if err != nil {
		s.explain(err)
		return false
	}
	defer func() { _ = conn.Close() }() // Nothing was sent.
	s.Listening, s.remote = true, conn.RemoteAddr().String()
	s.add(OK, "connect", "", "a connection is possible")
	credentials, err := credentialsOf(conn)
	if err != nil {
		return true // The system does not tell.
	}
	s.peerUID = credentials.UID
	if credentials.PID > 0 {
		p := processOf(credentials.PID)
		p.UID, p.Listens = credentials.UID, true
		s.Listeners = append(s.Listeners, p)
	}
	return true
}

// explain adds what a failed connection means.
func (s *subject) explain(err error) {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED) && s.Kind == KindFile:
		info, statErr := os.Stat(s.name)
		if s.Stale = statErr == nil && info.Mode().Type() == fs.ModeSocket; s.Stale {
			s.add(Problem, "connect", "Start the reader: it removes the file that the last one has left.",
				"nobody listens: the file is stale, its process was killed or has ended")
		}
	case errors.Is(err, syscall.ECONNREFUSED):
		s.add(Problem, "connect", "Start the reader, or check the address: it must be the same on both sides.",
			"nobody listens")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ELOOP): // examineFile has told it.
	case errors.Is(err, fs.ErrPermission):
		s.forbidden = true
		s.add(Problem, "connect", "Connecting takes write permission on the socket and search permission on its "+
			"directories. Give the socket a group (WithSocketMode, WithSocketOwner; udsipc listen --mode 0660 --group GROUP), "+
			"and add the user to it, or run as the reader's user.",
			"this user (uid %d) may not connect", os.Geteuid())
	case errors.Is(err, syscall.EAGAIN):
		s.Listening = true
		s.add(Problem, "connect", "The reader accepts nothing: look whether it hangs, or has too few file descriptors.",
			"the backlog of the listener is full")
	case errors.Is(err, syscall.EPROTOTYPE):
		s.add(Problem, "connect", "Readers and Writers use stream sockets. It is another program's.",
			"a socket of another type lies there, such as one for datagrams")
	default:
		s.add(Problem, "connect", "Check the address and, for another machine, its firewall.", "%v", err)
	}
}

// credentialsOf returns the credentials of the process that listens.
func credentialsOf(conn net.Conn) (*peercred.Credentials, error) {
	raw, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	control, err := raw.SyscallConn()
	if err != nil {
		return nil, err
	}
	return peercred.Of(control)
}

// plain returns the text of an error without the name of the package.
func plain(err error) string { return strings.TrimPrefix(err.Error(), "udsipc: ") }
