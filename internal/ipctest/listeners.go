// SPDX-License-Identifier: Apache-2.0

package ipctest

import (
	"context"
	"net"
	"sync"
	"syscall"
)

// A MemoryListener accepts the far ends of pipes in memory. It has no descriptor, so it works under
// a fake clock.
type MemoryListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *MemoryListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *MemoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *MemoryListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

// Dial connects to the listener; it is for WithDialer.
func (l *MemoryListener) Dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ListenInMemory returns an open MemoryListener.
func ListenInMemory() *MemoryListener {
	return &MemoryListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// A FailingListener returns the errors of Errs from Accept, and then connections.
type FailingListener struct {
	net.Listener
	Errs chan error
}

func (l *FailingListener) Accept() (net.Conn, error) {
	select {
	case err := <-l.Errs:
		return nil, err
	default:
		return l.Listener.Accept()
	}
}
