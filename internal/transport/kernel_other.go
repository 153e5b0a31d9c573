// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package transport

// This file is kernel_linux.go where the system has nothing of the kind: nothing is known, so nothing
// is concluded, and the goodbye takes the place of a shut receiving side.

import (
	"net"
	"syscall"
)

const (
	endOfFileMeansRead = false
	canTellUnread      = false
)

func unread(syscall.RawConn) (bytes int, ok bool) { return 0, false }
func readableBytes(syscall.RawConn) (bytes int)   { return 0 }
func hungUp(syscall.RawConn) bool                 { return false }
func sendBufferSize(syscall.RawConn) (bytes int)  { return 0 }
func pendingError(syscall.RawConn) error          { return nil }
func CloseRead(net.Conn) bool                     { return false }
