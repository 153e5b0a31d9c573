// SPDX-License-Identifier: Apache-2.0

//go:build !linux && !darwin && !freebsd

package udsipc

import (
	"errors"
	"syscall"
)

// peerCredentials is for systems that do not tell, or not in a way that is known here.
func peerCredentials(syscall.RawConn) (*credentials, error) { return nil, errors.ErrUnsupported }
