// SPDX-License-Identifier: Apache-2.0

package peercred

// This file asks Linux who is at the other end of a Unix socket.

import (
	"errors"
	"syscall"
	"unsafe"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// soPeerGroups is SO_PEERGROUPS (asm-generic/socket.h), which the syscall package has no name for.
const soPeerGroups = 59

// Of returns SO_PEERCRED and SO_PEERGROUPS.
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

// peerGroups returns the supplementary groups; none before Linux 4.13, which does not tell.
func peerGroups(fd uintptr) ([]int, error) {
	groups := make([]uint32, 32)
	for {
		size := uint32(4 * len(groups))
		errno := getsockopt(fd, syscall.SOL_SOCKET, soPeerGroups, unsafe.Pointer(&groups[0]), &size)
		switch {
		case errno == syscall.ERANGE: // size is what it takes.
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
