// SPDX-License-Identifier: Apache-2.0

package publish

// This file is one connection of a client.

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/udsipc/udsipc/internal/peercred"
)

// serve serves a client until the connection ends.
func (p *Publication) serve(conn net.Conn) {
	err := p.answer(conn)
	_ = conn.Close() // Nothing is owed to the client.
	p.mu.Lock()
	delete(p.conns, conn)
	first := err != nil && !p.failed
	p.failed = p.failed || first
	p.mu.Unlock()
	p.clients.Done()
	if first {
		p.cfg.Report(err) // Stop does not wait for this call.
	}
}

// answer sends snapshots to a client. The error is that there is none.
func (p *Publication) answer(conn net.Conn) error {
	if !permitted(conn) {
		return nil
	}
	request := make([]byte, 1)
	for {
		line, err := p.line()
		if err != nil {
			return err
		}
		if conn.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil {
			return nil
		}
		if _, err := conn.Write(line); err != nil {
			return nil
		}
		if conn.SetReadDeadline(time.Now().Add(idleTimeout)) != nil {
			return nil
		}
		if n, _ := conn.Read(request); n == 0 || request[0] != '\n' {
			return nil
		}
	}
}

// permitted reports whether the client is a process of the same user, or of root. Where the kernel does not tell, the
// directory decides.
func permitted(conn net.Conn) bool {
	peer, err := peerOf(conn)
	if errors.Is(err, errors.ErrUnsupported) {
		return true
	}
	return err == nil && (peer.UID == os.Geteuid() || peer.UID == 0)
}

// peerOf returns the credentials of the process at the other end.
func peerOf(conn net.Conn) (*peercred.Credentials, error) {
	raw, ok := conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	control, err := raw.SyscallConn()
	if err != nil {
		return nil, err
	}
	return peercred.Of(control)
}
