// SPDX-License-Identifier: Apache-2.0

// Package peercred reads the credentials of the process at the other end of a Unix socket from the
// kernel. Each system has its own file. Where the kernel has no such function, the error is
// errors.ErrUnsupported.
package peercred

// This file has the type of the credentials.

import "fmt"

// Credentials are the credentials of a process when it connected or listened.
type Credentials struct {
	UID, GID int
	PID      int   // 0 if the system does not report it.
	Groups   []int // Supplementary groups, if the system reports them.
}

// String returns the IDs as text for logs.
func (c *Credentials) String() string {
	if c == nil {
		return "no credentials"
	}
	return fmt.Sprintf("uid %d, gid %d, pid %d", c.UID, c.GID, c.PID)
}
