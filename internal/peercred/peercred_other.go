// SPDX-License-Identifier: Apache-2.0

//go:build !linux && !darwin && !freebsd

package peercred

import (
	"errors"
	"syscall"
)

// Of is for systems that do not tell, or not in a way that is known here.
func Of(syscall.RawConn) (*Credentials, error) { return nil, errors.ErrUnsupported }
