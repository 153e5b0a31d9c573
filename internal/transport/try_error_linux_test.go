// SPDX-License-Identifier: Apache-2.0

package transport_test

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/transport"
)

// TestOut_TryWriteFails_ErrorIsKept: the kernel reports a reset once. The next write returns it again,
// and the end reports the loss also if nothing more was written.
func TestOut_TryWriteFails_ErrorIsKept(t *testing.T) {
	for _, again := range []bool{true, false} {
		client, server := tcpPair(t)
		o := transport.NewOut(client, time.Second)
		if !o.CanTryWrite() {
			t.Fatal("it cannot")
		}
		if n, err := o.TryWrite([]byte("\x01a")); n != 2 || err != nil {
			t.Fatal(n, err)
		}
		o.Completed(1)
		if err := server.(*net.TCPConn).SetLinger(0); err != nil { // A reset.
			t.Fatal(err)
		}
		server.Close()
		if n, err := o.TryWrite([]byte("\x01b")); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(n, err)
		}
		if again {
			if n, err := o.Write(bufs("\x01b")); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
				t.Error(n, err)
			}
		}
		go o.ReadLoop(func() {}) // Ends with the connection: it gets end of file.
		if end := o.CloseAndAccount(nil, nil); end.Lost != 1 || !errors.Is(end.Cause, syscall.ECONNRESET) {
			t.Errorf("%+v", end)
		}
	}
}

// TestOut_TryWriteWaits_IsNoError: a full socket, or a deadline, says nothing about the connection.
func TestOut_TryWriteWaits_IsNoError(t *testing.T) {
	near, far := ipctest.SocketPair(t)
	o := transport.NewOut(near, time.Second)
	if !o.CanTryWrite() {
		t.Fatal("it cannot")
	}
	total, err := o.TryWrite(make([]byte, 4<<20))
	if total == 0 || !errors.Is(err, syscall.EAGAIN) {
		t.Fatal(total, err)
	}
	go far.Read(make([]byte, 4<<20))
	for {
		n, err := o.Write(bufs("a"))
		if n == 1 {
			break
		}
		if !transport.IsTimeout(err) {
			t.Fatal(err)
		}
	}
}
