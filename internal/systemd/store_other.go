// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package systemd

// This file replaces store_linux.go on systems without systemd: nothing can be stored.

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

func newMemfd(string, []byte) (*os.File, error) { return nil, errors.ErrUnsupported }

func unixRights(uintptr) []byte { return nil }

func sendDatagram(conn *net.UnixConn, to *net.UnixAddr, message, rights []byte) error {
	if err := conn.SetWriteDeadline(time.Now().Add(notifyTimeout)); err != nil {
		return err
	}
	_, _, err := conn.WriteMsgUnix(message, rights, to)
	return err
}

func isBusy(error) bool { return false }

func inodeOf(syscall.Conn) (uint64, error) { return 0, errors.ErrUnsupported }

func openStored(string, *Passed) (Stored, error) {
	return Stored{}, errors.ErrUnsupported
}

func monotonic() (time.Duration, bool) { return 0, false }
