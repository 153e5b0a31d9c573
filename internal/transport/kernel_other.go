// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package transport

// This file replaces kernel_linux.go on other systems. The kernel reports nothing there, so nothing
// is concluded, and the goodbye takes the place of CloseRead.

import (
	"net"
	"syscall"
)

const (
	endOfFileMeansRead = false
	canTellUnread      = false
)

func unread(syscall.RawConn) (bytes int, ok bool) { return 0, false }
func mayBlock(syscall.RawConn) bool               { return false }
func readableBytes(syscall.RawConn) (bytes int)   { return 0 }
func hungUp(syscall.RawConn) bool                 { return false }
func sendBufferSize(syscall.RawConn) (bytes int)  { return 0 }
func pendingError(syscall.RawConn) error          { return nil }
func CloseRead(net.Conn) bool                     { return false }
