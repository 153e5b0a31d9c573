// SPDX-License-Identifier: Apache-2.0

package inspect

// This file asks the kernel how many connections wait to be accepted (sock_diag(7)).

import (
	"encoding/binary"
	"errors"
	"syscall"
)

// From linux/sock_diag.h and linux/unix_diag.h. Package syscall does not have them.
const (
	netlinkSockDiag  = 4
	sockDiagByFamily = 20
	showQueues       = 0x10 // UDIAG_SHOW_RQLEN.
	attributeQueues  = 4    // UNIX_DIAG_RQLEN.
	diagMessageSize  = 16   // Of struct unix_diag_msg.
)

var errNoAnswer = errors.New("the kernel does not tell the queue of the socket")

// unixBacklog returns how many connections wait at a listening Unix socket, and how many may.
func unixBacklog(inode uint64) (waiting, most uint32, err error) {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, netlinkSockDiag)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = syscall.Close(fd) }()                                             // It was only asked.
	timeout := syscall.Timeval{Sec: 1}                                                   // The kernel answers at once.
	_ = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &timeout) // Without it, it answers too.
	to := &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}
	if err := syscall.Sendto(fd, diagRequest(inode), 0, to); err != nil {
		return 0, 0, err
	}
	reply := make([]byte, 4096)
	n, _, err := syscall.Recvfrom(fd, reply, 0)
	if err != nil {
		return 0, 0, err
	}
	messages, err := syscall.ParseNetlinkMessage(reply[:n])
	if err != nil {
		return 0, 0, err
	}
	for _, m := range messages {
		if m.Header.Type == sockDiagByFamily && len(m.Data) >= diagMessageSize {
			return parseQueues(m.Data[diagMessageSize:])
		}
	}
	return 0, 0, errNoAnswer
}

// diagRequest returns a struct nlmsghdr with a struct unix_diag_req for one socket.
func diagRequest(inode uint64) []byte {
	order, request := binary.NativeEndian, make([]byte, 0, 40)
	request = order.AppendUint32(request, 40)
	request = order.AppendUint16(request, sockDiagByFamily)
	request = order.AppendUint16(request, syscall.NLM_F_REQUEST)
	request = order.AppendUint32(request, 1) // The number of the request.
	request = order.AppendUint32(request, 0)
	request = append(request, syscall.AF_UNIX, 0, 0, 0)
	request = order.AppendUint32(request, ^uint32(0)) // All states.
	request = order.AppendUint32(request, uint32(inode))
	request = order.AppendUint32(request, showQueues)
	return order.AppendUint64(request, ^uint64(0)) // No cookie.
}

// parseQueues parses the attributes of a reply.
func parseQueues(attributes []byte) (waiting, most uint32, err error) {
	order := binary.NativeEndian
	for len(attributes) >= 4 {
		size, kind := int(order.Uint16(attributes)), order.Uint16(attributes[2:])
		if size < 4 || size > len(attributes) {
			break
		}
		if kind == attributeQueues && size >= 12 {
			return order.Uint32(attributes[4:]), order.Uint32(attributes[8:]), nil
		}
		attributes = attributes[min((size+3)&^3, len(attributes)):]
	}
	return 0, 0, errNoAnswer
}

// examineBacklog tells how many connections wait, if the kernel tells.
func (s *subject) examineBacklog(inodes []uint64) {
	if s.Kind == KindTCP || len(inodes) == 0 {
		return
	}
	waiting, most, err := unixBacklog(inodes[len(inodes)-1])
	switch {
	case err != nil:
	case waiting > 0 && waiting*2 >= most:
		s.add(Problem, "listener", "The reader accepts too slowly, or not at all: look whether it hangs.",
			"connections that wait to be accepted: %d of at most %d", waiting, most)
	default:
		s.add(OK, "listener", "", "connections that wait to be accepted: %d of at most %d", waiting, most)
	}
}
