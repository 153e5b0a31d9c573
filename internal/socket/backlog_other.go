// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package socket

// This file replaces backlog_linux.go on systems without such functions.

import (
	"errors"
	"net"
)

func HalfCloseListener(*net.UnixListener) bool   { return false }
func FilterNewConnections(*net.TCPListener) bool { return false }

func AcceptNow(net.Listener, func(error) bool) (net.Conn, error) { return nil, errors.ErrUnsupported }
