// SPDX-License-Identifier: Apache-2.0

//go:build !linux && !darwin && !freebsd

package peercred

import (
	"errors"
	"syscall"
)

// Of is for systems without a known way to read the credentials.
func Of(syscall.RawConn) (*Credentials, error) { return nil, errors.ErrUnsupported }
