// SPDX-License-Identifier: Apache-2.0

// Package peercred reads the credentials of the process at the other end of a Unix socket from the kernel. There is one
// file for each system; where the kernel does not tell, the error is errors.ErrUnsupported.
package peercred

// This file is what the kernel tells of the process at the other end of a Unix socket.

import "fmt"

// Credentials are those of a process, as the kernel noted them.
type Credentials struct {
	UID, GID int
	PID      int   // 0 if the system does not tell.
	Groups   []int // Supplementary groups, where the system tells.
}

// String returns the numbers, for logs.
func (c *Credentials) String() string {
	if c == nil {
		return "no credentials"
	}
	return fmt.Sprintf("uid %d, gid %d, pid %d", c.UID, c.GID, c.PID)
}
