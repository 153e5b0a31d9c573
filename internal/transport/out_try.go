// SPDX-License-Identifier: Apache-2.0

package transport

// This file writes to a socket without waiting.

import (
	"errors"
	"net"
	"syscall"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// A TryWriter writes as much as a socket takes without waiting. One goroutine may use it at a time.
type TryWriter struct {
	raw     syscall.RawConn
	tryFunc func(fd uintptr) (done bool) // try, bound once, so that no call allocates.
	pending []byte
	n       int
	err     error
}

// NewTryWriter returns nil if a write to conn may wait.
func NewTryWriter(conn net.Conn) *TryWriter {
	_, raw := kindOf(conn)
	if raw == nil || !canTryRead || mayBlock(raw) {
		return nil
	}
	w := &TryWriter{raw: raw}
	w.tryFunc = w.try
	return w
}

// Write writes bufs, or a part of them, and returns the number of bytes. full reports that the
// socket takes no more now.
func (w *TryWriter) Write(bufs [][]byte) (n int, full bool, err error) {
	for _, w.pending = range bufs {
		for len(w.pending) > 0 {
			w.n, w.err = 0, nil // For a closed connection, tryFunc is not called.
			err = w.raw.Write(w.tryFunc)
			n += w.n
			if err = errdefs.First(w.err, err); err != nil {
				w.pending = nil
				return n, errors.Is(err, syscall.EAGAIN), err
			}
			w.pending = w.pending[w.n:]
		}
	}
	w.pending = nil // Otherwise it would keep the memory from the garbage collector.
	return n, false, nil
}

// try is one system call. It never asks to wait (net, syscall.RawConn).
func (w *TryWriter) try(fd uintptr) bool {
	w.n, w.err = writeDescriptor(fd, w.pending)
	return true
}
