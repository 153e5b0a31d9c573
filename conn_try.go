// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file writes to a socket without waiting.

import (
	"errors"
	"net"
	"syscall"
)

// A tryWriter writes what a socket takes at once. One goroutine may use it at a time.
type tryWriter struct {
	raw     syscall.RawConn
	tryFunc func(fd uintptr) (done bool) // try, bound once, so that no call allocates.
	pending []byte
	n       int
	err     error
}

// newTryWriter returns nil if a write to conn may wait.
func newTryWriter(conn net.Conn) *tryWriter {
	_, raw := kindOf(conn)
	if raw == nil || !canTryRead {
		return nil
	}
	w := &tryWriter{raw: raw}
	w.tryFunc = w.try
	return w
}

// write writes bufs, or a part of them, and returns how many bytes that were. full reports that the
// socket takes no more at present.
func (w *tryWriter) write(bufs [][]byte) (n int, full bool, err error) {
	for _, w.pending = range bufs {
		for len(w.pending) > 0 {
			w.n, w.err = 0, nil // A connection that is closed is not even tried.
			err = w.raw.Write(w.tryFunc)
			n += w.n
			if err = firstError(w.err, err); err != nil {
				return n, errors.Is(err, syscall.EAGAIN), err
			}
			w.pending = w.pending[w.n:]
		}
	}
	return n, false, nil
}

// try is one system call. It never asks to wait (net, syscall.RawConn).
func (w *tryWriter) try(fd uintptr) bool {
	w.n, w.err = writeDescriptor(fd, w.pending)
	return true
}
