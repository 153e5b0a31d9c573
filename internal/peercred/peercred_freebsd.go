// SPDX-License-Identifier: Apache-2.0

package peercred

import "syscall"

// peerPID returns pid, the field cr_pid of the credentials.
func peerPID(_ syscall.RawConn, pid uint32) int { return int(pid) }
