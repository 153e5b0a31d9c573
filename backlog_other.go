// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package udsipc

// This file is backlog_linux.go where the system has nothing of the kind.

import (
	"errors"
	"net"
)

func halfCloseListener(*net.UnixListener) bool   { return false }
func filterNewConnections(*net.TCPListener) bool { return false }

func acceptNow(net.Listener, func(error) bool) (net.Conn, error) { return nil, errors.ErrUnsupported }
