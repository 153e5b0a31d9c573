// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the one socket option of a TCP connection that the net package has no name for.

import (
	"net"
	"syscall"
	"time"
)

// limitUnacknowledged ends a connection whose peer's kernel has not acknowledged data for so long
// (TCP_USER_TIMEOUT: tcp(7)).
func limitUnacknowledged(conn *net.TCPConn, limit time.Duration) {
	const tcpUserTimeoutOption = 18
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeoutOption, int(limit.Milliseconds()))
		})
	}
}
