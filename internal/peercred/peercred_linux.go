// SPDX-License-Identifier: Apache-2.0

package peercred

// This file reads the credentials on Linux.

import (
	"errors"
	"syscall"
	"unsafe"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// soPeerGroups is SO_PEERGROUPS (asm-generic/socket.h). Package syscall has no name for it.
const soPeerGroups = 59

// Of returns the credentials of SO_PEERCRED and SO_PEERGROUPS.
func Of(raw syscall.RawConn) (*Credentials, error) {
	var found *Credentials
	var failed error
	err := raw.Control(func(fd uintptr) {
		ucred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
		if err != nil {
			failed = err
			return
		}
		found = &Credentials{UID: int(ucred.Uid), GID: int(ucred.Gid), PID: int(ucred.Pid)}
		found.Groups, failed = peerGroups(fd)
	})
	return found, errdefs.First(err, failed)
}

// peerGroups returns the supplementary groups. Linux before 4.13 does not report them.
func peerGroups(fd uintptr) ([]int, error) {
	groups := make([]uint32, 32)
	for {
		size := uint32(4 * len(groups))
		errno := getsockopt(fd, syscall.SOL_SOCKET, soPeerGroups, unsafe.Pointer(&groups[0]), &size)
		switch {
		case errno == syscall.ERANGE: // The kernel has set size to the size that is needed.
			groups = make([]uint32, max(int(size)/4, 2*len(groups)))
			continue
		case errors.Is(errno, syscall.ENOPROTOOPT):
			return nil, nil
		case errno != 0:
			return nil, errno
		}
		list := make([]int, size/4)
		for i := range list {
			list[i] = int(groups[i])
		}
		return list, nil
	}
}
