// SPDX-License-Identifier: Apache-2.0

package duplex_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/ipctest"
)

func TestClient_ServerAway_QueuesMessages(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	var states []udsipc.State
	c := dial(t, address, udsipc.WithMaxBufferedWrites(3),
		udsipc.WithStateCallback(func(s udsipc.State, _ error) { states = append(states, s) }))
	for n := range uint32(3) {
		if err := c.Send(duplex.Message{Type: n}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Send(duplex.Message{}); !errors.Is(err, udsipc.ErrBufferFull) {
		t.Error(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.Receive(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	serve(t, address, echo)
	for n := range uint32(3) {
		if m := receive(t, c); m.Type != n {
			t.Errorf("type %d, want %d", m.Type, n)
		}
	}
	if c.State() != udsipc.StateConnected {
		t.Error(c.State())
	}
	if _, ok := c.Peer(); !ok {
		t.Error("nobody")
	}
	ipctest.Stop(t, c)
	if _, err := c.Receive(t.Context()); !errors.Is(err, udsipc.ErrStopped) {
		t.Error(err)
	}
	want := []udsipc.State{udsipc.StateConnecting, udsipc.StateConnected, udsipc.StateStopped}
	if fmt.Sprint(states) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", states, want)
	}
}

// TestClient_NoReceive_AppliesBackpressure the server once nobody receives, instead of filling the memory.
func TestClient_NoReceive_AppliesBackpressure(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	var sent atomic.Int64
	serve(t, address, func(_ context.Context, s *duplex.ServerConn, m duplex.Message) error {
		for s.Send(duplex.Message{Data: make([]byte, 100_000)}) == nil {
			sent.Add(1)
		}
		return nil
	}, udsipc.WithMaxBufferedBytes(1<<20), udsipc.WithMaxMessageSize(1<<19))
	c := dial(t, address)
	if err := c.Send(duplex.Message{}); err != nil {
		t.Fatal(err)
	}
	before := int64(-1)
	ipctest.Until(t, "nothing moves any more", func() bool {
		now := sent.Load()
		same := now == before && now > 0
		before = now
		time.Sleep(20 * time.Millisecond)
		return same
	})
	if n := sent.Load(); n > 300 {
		t.Errorf("%d messages of 100 kB were taken from a server whose client receives none", n)
	}
	receive(t, c)
	ipctest.Stop(t, c) // Although the handler of what comes waits for room.
}

// TestClient_HandlerPanics_CostsOneMessage, and cost their message alone.
func TestClient_HandlerPanics_CostsOneMessage(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	serve(t, address, echo)
	got, errs := make(chan uint32, 10), make(chan error, 10)
	c, err := duplex.NewHandlerClient(address, func(m duplex.Message) {
		if m.Type == 1 {
			panic("oh")
		}
		got <- m.Type
	}, udsipc.WithWriterErrorCallback(func(err error, _ string) { errs <- err }))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for kind := range uint32(3) {
		if err := c.Send(duplex.Message{Type: kind}); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []uint32{0, 2} {
		if kind := <-got; kind != want {
			t.Errorf("type %d, want %d", kind, want)
		}
	}
	if err := <-errs; !errors.Is(err, udsipc.ErrHandlerFailed) {
		t.Error(err)
	}
	ipctest.Stop(t, c)
}
