// SPDX-License-Identifier: Apache-2.0

//go:build darwin || freebsd

package peercred

// This file reads the credentials on Darwin and FreeBSD.

import (
	"fmt"
	"syscall"
	"unsafe"
)

const (
	solLocal      = 0 // SOL_LOCAL (sys/un.h)
	localPeerCred = 1 // LOCAL_PEERCRED
	xucredVersion = 0 // XUCRED_VERSION (sys/ucred.h)
)

// Of returns the credentials of LOCAL_PEERCRED (unix(4)). The first group is the effective one.
func Of(raw syscall.RawConn) (*Credentials, error) {
	var cred struct { // struct xucred
		version, uid uint32
		count        int16
		groups       [16]uint32
		pid          uintptr // FreeBSD only: a union of a pointer and the PID.
	}
	size := uint32(unsafe.Sizeof(cred))
	var errno syscall.Errno
	err := raw.Control(func(fd uintptr) {
		errno = getsockopt(fd, solLocal, localPeerCred, unsafe.Pointer(&cred), &size)
	})
	switch {
	case err != nil:
		return nil, err
	case errno != 0:
		return nil, errno
	case cred.version != xucredVersion || cred.count < 1 || int(cred.count) > len(cred.groups):
		return nil, fmt.Errorf("credentials of version %d with %d groups are not known", cred.version, cred.count)
	}
	found := &Credentials{UID: int(cred.uid), GID: int(cred.groups[0])}
	for _, gid := range cred.groups[1:cred.count] {
		found.Groups = append(found.Groups, int(gid))
	}
	found.PID = peerPID(raw, uint32(cred.pid))
	return found, nil
}
