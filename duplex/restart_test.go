// SPDX-License-Identifier: Apache-2.0

package duplex_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestServer_Restarts_LoseNothing of a server that is stopped, one after the other, under clients
// that send all the time.
func TestServer_Restarts_LoseNothing(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("what lies in the socket is lost elsewhere")
	}
	const clients, restarts = 4, 20
	address := ipctest.SocketPath(t)
	var mu sync.Mutex
	next := map[uint32]int{}
	handled := make(chan struct{}, 1)
	handler := func(_ context.Context, s *duplex.ServerConn, m duplex.Message) error {
		mu.Lock()
		defer mu.Unlock()
		if want := fmt.Sprint(next[m.Type], " "); !strings.HasPrefix(string(m.Data), want) {
			t.Errorf("client %d: %.20q, want %s", m.Type, m.Data, want)
		}
		next[m.Type]++
		select {
		case handled <- struct{}{}:
		default:
		}
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	var senders sync.WaitGroup
	sent := make([]int, clients)
	var all []*duplex.Client
	for i := range clients {
		c := dial(t, address, udsipc.WithOverflow(udsipc.OverflowBlock))
		all = append(all, c)
		senders.Go(func() {
			for ; ctx.Err() == nil; sent[i]++ {
				data := append(fmt.Append(nil, sent[i], " "), make([]byte, sent[i]%3000)...)
				if err := c.Send(duplex.Message{Type: uint32(i), Data: data}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var last *duplex.Server
	for range restarts {
		s, err := duplex.NewServer(address, handler)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		<-handled
		if last = s; t.Failed() {
			break
		}
		ipctest.Stop(t, s)
	}
	last = serve(t, address, handler)
	cancel()
	senders.Wait()
	for _, c := range all {
		ipctest.Stop(t, c)
	}
	ipctest.Stop(t, last)
	for i, n := range sent {
		if next[uint32(i)] != n {
			t.Errorf("client %d: %d of %d messages were handled", i, next[uint32(i)], n)
		}
	}
}

// TestServer_StopHungHandler_ReturnsWithContext returns with its context, and the handler's ends.
func TestServer_StopHungHandler_ReturnsWithContext(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	entered := make(chan context.Context, 1)
	s, err := duplex.NewServer(address, func(ctx context.Context, _ *duplex.ServerConn, _ duplex.Message) error {
		entered <- ctx
		<-ctx.Done()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	c := dial(t, address)
	if err := c.Send(duplex.Message{}); err != nil {
		t.Fatal(err)
	}
	ctx := <-entered
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Stop(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	<-ctx.Done()
	ipctest.Stop(t, s) // Again.
	if err := s.Start(); !errors.Is(err, udsipc.ErrStopped) {
		t.Error(err)
	}
}

// TestServer_StopTCP_HandlesWhatWasSent: what was sent is handled, although the server still
// answers when the client closes.
func TestServer_StopTCP_HandlesWhatWasSent(t *testing.T) {
	t.Parallel()
	const messages = 5000
	var handled atomic.Int64
	s := serve(t, "tcp://127.0.0.1:0", func(_ context.Context, s *duplex.ServerConn, m duplex.Message) error {
		handled.Add(1)
		return s.Send(m)
	})
	c, err := duplex.NewHandlerClient("tcp://"+s.Addr().String(), func(duplex.Message) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for range messages {
		if err := c.Send(duplex.Message{Type: 1, Data: make([]byte, 500)}); err != nil {
			t.Fatal(err)
		}
	}
	ipctest.Stop(t, c)
	ipctest.Until(t, "all are handled", func() bool { return handled.Load() == messages })
}
