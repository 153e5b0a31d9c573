// SPDX-License-Identifier: Apache-2.0

package peercred

import "syscall"

// peerPID returns cr_pid, which is a part of the credentials.
func peerPID(_ syscall.RawConn, pid uint32) int { return int(pid) }
