// SPDX-License-Identifier: Apache-2.0

package sender_test

import (
	"errors"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/seam"
)

// dialWithoutReading returns the Listener's end of a connection whose peer reads nothing, and the peer.
func dialWithoutReading(t *testing.T, l *udsipc.Listener) (*udsipc.Conn, net.Conn) {
	t.Helper()
	peer, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	return ipctest.Accept(t, l), peer
}

// fill writes messages until one does not fit.
func fill(t *testing.T, conn *udsipc.Conn, size int) {
	t.Helper()
	for range 1 << 12 {
		if err := conn.TryWriteMessage(make([]byte, size)); errors.Is(err, udsipc.ErrBufferFull) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the queue takes everything")
}

// TestSendMemory_SlowPeers_AreBounded has many peers read nothing: what is queued for all of them
// is bounded, and of that each has a part.
func TestSendMemory_SlowPeers_AreBounded(t *testing.T) {
	const limit, size, free, peers = 1 << 20, 10_000, 64 << 10, 40
	l := ipctest.Listen(t, filepath.Join(t.TempDir(), "s"), udsipc.WithMaxSendMemory(limit),
		udsipc.WithOverflow(udsipc.OverflowRefuse))
	var all []net.Conn
	for n := range peers {
		before := l.Metrics().SendMemory
		conn, peer := dialWithoutReading(t, l)
		all = append(all, peer)
		fill(t, conn, size)
		switch has := l.Metrics().SendMemory - before; {
		case n == 0 && (has < limit/2 || has > limit/2+free):
			t.Errorf("the first connection has %d bytes of %d", has, limit)
		case has < free-size || has > limit/2+free:
			t.Errorf("connection %d has %d bytes of %d", n, has, limit)
		}
	}
	if has := l.Metrics().SendMemory; has > 2*limit+peers*free {
		t.Errorf("%d bytes are queued for %d peers, the limit is %d", has, peers, limit)
	}
	dialled, accepted := ipctest.Converse(t, l, l.Addr().String())
	for range 100 {
		if err := accepted.WriteMessage(make([]byte, size)); err != nil {
			t.Fatalf("a peer that reads is refused for what others leave: %v", err)
		}
		if _, err := dialled.ReadMessage(); err != nil {
			t.Fatal(err)
		}
	}
	for _, peer := range all {
		peer.Close()
	}
	ipctest.Until(t, "all is given back", func() bool { return l.Metrics().SendMemory == 0 })
}

// TestSendMemory_PeerLeaves_ServesWaiter has a connection wait for room that another one has, which goes away.
func TestSendMemory_PeerLeaves_ServesWaiter(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	for _, large := range []int{20_000, 200_000} {
		l := ipctest.Listen(t, filepath.Join(t.TempDir(), "s"), udsipc.WithMaxSendMemory(limit))
		var others []net.Conn
		for range 20 {
			conn, peer := dialWithoutReading(t, l)
			others = append(others, peer)
			fill(t, conn, large)
		}
		conn, _ := dialWithoutReading(t, l)
		fill(t, conn, large)
		room := seam.OfConn(conn).Room() // nil where a smaller message still fits.
		written := make(chan error, 1)
		go func() { written <- conn.WriteMessage(make([]byte, large)) }()
		for _, peer := range others {
			peer.Close()
		}
		if err := ipctest.Await(t, "the write", written); err != nil {
			t.Errorf("%d bytes: %v", large, err)
		}
		if room != nil {
			ipctest.Await(t, "room", room)
		}
	}
}

// TestSendMemory_ManyConnections_AllProgress has many connections with messages of all sizes wait
// for each other: each of them gets through.
func TestSendMemory_ManyConnections_AllProgress(t *testing.T) {
	const peers, messages = 8, 60
	path := filepath.Join(t.TempDir(), "s")
	l := ipctest.Listen(t, path, udsipc.WithMaxSendMemory(128<<10), udsipc.WithMaxBufferedBytes(1<<20))
	var all sync.WaitGroup
	for n := range peers {
		dialled, accepted := ipctest.Converse(t, l, path)
		for w := range 2 {
			choices := rand.New(rand.NewPCG(uint64(n), uint64(w)))
			all.Go(func() {
				for range messages {
					if err := accepted.WriteMessage(make([]byte, 1+choices.IntN(300<<choices.IntN(11)))); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Go(func() {
			for range 2 * messages {
				if _, err := dialled.ReadMessage(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	ipctest.Until(t, "all is given back", func() bool { return l.Metrics().SendMemory == 0 })
}

// TestSendMemory_WithoutListener_IsError has the option refused where it means nothing.
func TestSendMemory_WithoutListener_IsError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if _, err := udsipc.NewListener(path, udsipc.WithMaxSendMemory(0)); !errors.Is(err, udsipc.ErrInvalidBufferSize) {
		t.Errorf("0 bytes: %v", err)
	}
	_, err := udsipc.NewReader(ipctest.Ignore, path, udsipc.WithMaxSendMemory(1))
	if err == nil || !strings.Contains(err.Error(), "WithMaxSendMemory") {
		t.Errorf("a Reader takes it: %v", err)
	}
	if _, err := udsipc.NewListener(path, udsipc.WithMaxBufferedBytes(1<<63)); err != nil {
		t.Error(err)
	}
}
