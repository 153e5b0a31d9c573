// SPDX-License-Identifier: Apache-2.0

package duplex_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/seam"
)

// TestServer_SlowClient_BlocksNobody that reads nothing holds up nobody: its queue is full, and the others go on.
func TestServer_SlowClient_BlocksNobody(t *testing.T) {
	t.Parallel()
	for _, policy := range []udsipc.OverflowPolicy{
		udsipc.OverflowRefuse, udsipc.OverflowBlock, udsipc.OverflowDropOldest,
	} {
		t.Run(policy.String(), func(t *testing.T) { aSlowClient(t, policy) })
	}
}

func aSlowClient(t *testing.T, policy udsipc.OverflowPolicy) {
	address := ipctest.SocketPath(t)
	s := serve(t, address, echo, udsipc.WithMaxBufferedBytes(1<<20),
		udsipc.WithMaxMessageSize(1<<19), udsipc.WithOverflow(policy))
	slow, err := net.Dial("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	quick := dial(t, address)
	if err := quick.WaitConnected(t.Context()); err != nil {
		t.Fatal(err)
	}
	ipctest.Until(t, "both are there", func() bool {
		n := 0
		for range s.Conns() {
			n++
		}
		return n == 2
	})
	if policy == udsipc.OverflowDropOldest {
		aSlowClientMisses(t, s)
		return
	}
	full := false
	for n := 0; !full; n++ {
		reached, err := s.Broadcast(duplex.Message{Type: 1, Data: make([]byte, 100_000)})
		if reached < 1 {
			t.Fatalf("broadcast %d reached %d: %v", n, reached, err)
		}
		if full = err != nil; full && (!errors.Is(err, udsipc.ErrBufferFull) || reached != 1) {
			t.Fatalf("reached %d: %v", reached, err)
		}
		if m := receive(t, quick); m.Type != 1 || len(m.Data) != 100_000 {
			t.Fatalf("type %d, %d bytes", m.Type, len(m.Data))
		}
		if n > 1000 {
			t.Fatal("the queue is never full")
		}
	}
}

// aSlowClientMisses what is dropped, which is counted.
func aSlowClientMisses(t *testing.T, s *duplex.Server) {
	t.Helper()
	ipctest.Until(t, "messages are dropped", func() bool {
		if _, err := s.Broadcast(duplex.Message{Type: 1, Data: make([]byte, 100_000)}); err != nil {
			t.Fatal(err)
		}
		return s.Metrics().Dropped >= 10
	})
	var sum uint64
	for session := range s.Conns() {
		sum += session.Dropped()
	}
	if m := s.Metrics(); m.Dropped != sum {
		t.Errorf("%d messages were dropped, the sessions say %d", m.Dropped, sum)
	}
}

// TestServerConn_PauseReading_HoldsNoMemory reads nothing more, and holds no read memory, until it is let go on.
func TestServerConn_PauseReading_HoldsNoMemory(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	const messages = 20
	ready, handled := make(chan struct{}), make(chan uint32, messages)
	s := serve(t, address, func(_ context.Context, s *duplex.ServerConn, m duplex.Message) error {
		if m.Type == 0 {
			seam.OfSession(s).PauseReading(ready)
		}
		handled <- m.Type
		return nil
	})
	c := dial(t, address)
	for kind := range uint32(messages) {
		if err := c.Send(duplex.Message{Type: kind, Data: make([]byte, 100_000)}); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-handled; got != 0 {
		t.Errorf("message %d came first", got)
	}
	ipctest.Until(t, "no read memory is held", func() bool { return s.Metrics().ReadMemory == 0 })
	if n := s.Metrics().Received; n != 1 {
		t.Errorf("%d messages were read", n)
	}
	close(ready)
	for kind := range uint32(messages - 1) {
		if got := <-handled; got != kind+1 {
			t.Errorf("message %d, want %d", got, kind+1)
		}
	}
}
