// SPDX-License-Identifier: Apache-2.0

package transport_test

// A sending connection over TLS.

import (
	"io"
	"os"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/transport"
)

// TestOut_TLS_WritesWithoutDeadline has no deadline for its writes, and tells when one has waited.
func TestOut_TLS_WritesWithoutDeadline(t *testing.T) {
	config := tlsConfig(t)
	near, far := ipctest.SocketPair(t)
	server, client := transport.NewTLSServer(near, config), transport.NewTLSClient(far, config)
	go tlsHandshake(t.Context(), client) // Ends before its first byte is read.
	if _, err := tlsHandshake(t.Context(), server); err != nil {
		t.Fatal(err)
	}
	o := transport.NewOut(server, 20*time.Millisecond)
	if !o.IsTLS() || o.IsResumable() {
		t.Error("TLS goes on after a timeout")
	}
	told := make(chan struct{}, 100)
	o.OnSlowWrite(func() { told <- struct{}{} })
	go func() { // Ends with its steps.
		<-told
		<-told
		_, _ = io.CopyN(io.Discard, client, 4<<20)
	}()
	if n, err := o.Write([][]byte{make([]byte, 4<<20)}); n != 4<<20 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	for len(told) > 0 {
		<-told
	}
	time.Sleep(60 * time.Millisecond)
	if len(told) > 0 {
		t.Error("it tells of a write that is over")
	}
	if waited, err := o.AfterTimeout(0, os.ErrDeadlineExceeded); waited || err != os.ErrDeadlineExceeded {
		t.Error(waited, err)
	}
}
