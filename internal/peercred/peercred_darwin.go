// SPDX-License-Identifier: Apache-2.0

package peercred

import (
	"syscall"
	"unsafe"
)

// peerPID returns LOCAL_PEERPID (sys/un.h), or 0.
func peerPID(raw syscall.RawConn, _ uint32) int {
	const localPeerPID = 2
	var pid int32
	size := uint32(unsafe.Sizeof(pid))
	err := raw.Control(func(fd uintptr) {
		if getsockopt(fd, solLocal, localPeerPID, unsafe.Pointer(&pid), &size) != 0 {
			pid = 0
		}
	})
	if err != nil {
		return 0
	}
	return int(pid)
}
