// SPDX-License-Identifier: Apache-2.0

package udsipc

// The send buffer of a Writer's connection.

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestWriterConfig_GrowSendBuffer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	own, other := os.Getpid(), os.Getppid()
	dialer := func(context.Context) (net.Conn, error) { return net.Dial("unix", path) }
	for name, row := range map[string]struct {
		peer *Credentials
		opts []WriterOption
		want int // 0: as the system gives it.
	}{
		"another process":               {&Credentials{PID: other}, nil, 2 * writerSendBuffer},
		"nobody knows which process":    {nil, nil, 2 * writerSendBuffer},
		"this process":                  {&Credentials{PID: own}, nil, 0},
		"the program's size":            {&Credentials{PID: other}, []WriterOption{WithWriteBufferSize(50 << 10)}, 100 << 10},
		"a connection of the program's": {&Credentials{PID: other}, []WriterOption{WithDialer(dialer)}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := newWriterConfig(path, row.opts)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := cfg.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			before := sendBufferOf(t, conn)
			cfg.growSendBuffer(conn, Peer{Credentials: row.peer})
			want := row.want
			if want == 0 {
				want = before
			}
			if got := sendBufferOf(t, conn); got != max(want, before) {
				t.Errorf("%d bytes, before %d, want %d", got, before, row.want)
			}
		})
	}
}

func sendBufferOf(t *testing.T, conn net.Conn) (bytes int) {
	t.Helper()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if failed := raw.Control(func(fd uintptr) {
		bytes, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF)
	}); failed != nil || err != nil {
		t.Fatal(failed, err)
	}
	return bytes
}
