// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package systemd

// This file is passed_linux.go where there is no systemd: nothing is ever passed.

import (
	"errors"
	"net"
)

func closeOnExec(int) {}

func passedListener(*Passed) (net.Listener, error) { return nil, errors.ErrUnsupported }

func checkStream(int) error { return errors.ErrUnsupported }
