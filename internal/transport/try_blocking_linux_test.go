// SPDX-License-Identifier: Apache-2.0

package transport_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/transport"
)

// TestOut_BlockingSocket_IsNotTried: a program's dialer may have made it blocking, by the descriptor
// of its File. Then a producer would wait for the peer.
func TestOut_BlockingSocket_IsNotTried(t *testing.T) {
	near, _ := ipctest.SocketPair(t)
	if !transport.NewOut(near, time.Second).CanTryWrite() {
		t.Error("a socket as the net package makes it is not tried")
	}
	file, err := near.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := syscall.SetNonblock(int(file.Fd()), false); err != nil {
		t.Fatal(err)
	}
	if transport.NewTryWriter(near) != nil || transport.NewOut(near, time.Second).CanTryWrite() {
		t.Error("it is tried")
	}
}
