// SPDX-License-Identifier: Apache-2.0

//go:build linux

package rpc_test

// This file is what TestHostileConversations attacks, and what that may cost.

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/ipctest"
	ours "github.com/udsipc/udsipc/rpc"
)

var hostileTime = flag.Duration("hostile.time", 100*time.Millisecond, "how long each kind of hostile client goes on")

// A victim is a server of each package with the default limits, and honest clients of them.
type victim struct {
	rpc     *ours.Server
	duplex  *duplex.Server
	calls   *ours.Client
	streams *ours.Client
	echoes  *duplex.Client
	sockets [2]string // Of rpc, and of duplex.

	mu   sync.Mutex // Guards took.
	took []time.Duration
}

func startVictim(t *testing.T) *victim {
	large := 1 << 20
	if ipctest.RaceEnabled {
		large = 64 << 10 // The race detector looks at each byte.
	}
	v := &victim{sockets: [2]string{ipctest.SocketPath(t), ipctest.SocketPath(t)}}
	quiet := udsipc.WithReaderErrorCallback(func(error, string) {})
	v.rpc = serve(t, v.sockets[0], func(s *ours.Server) {
		s.Handle("large", func(context.Context, []byte) ([]byte, error) { return make([]byte, large), nil })
		s.Handle("wait", func(ctx context.Context, _ []byte) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() })
		s.Handle("goexit", func(context.Context, []byte) ([]byte, error) { runtime.Goexit(); return nil, nil })
		s.HandleStream("goexit stream", func(context.Context, *ours.Stream) error { runtime.Goexit(); return nil })
		s.HandleStream("unread", func(ctx context.Context, _ *ours.Stream) error { <-ctx.Done(); return ctx.Err() })
		s.HandleStream("flood", func(_ context.Context, s *ours.Stream) error {
			for {
				if err := s.Send(make([]byte, 10_000)); err != nil {
					return err
				}
			}
		})
		s.HandleStream("stream", func(_ context.Context, s *ours.Stream) error {
			for {
				data, err := s.Receive()
				if err != nil {
					return err
				}
				if err := s.Send(data); err != nil {
					return err
				}
			}
		})
	}, quiet)
	var err error
	v.duplex, err = duplex.NewServer(v.sockets[1], func(_ context.Context, s *duplex.ServerConn, m duplex.Message) error {
		if string(m.Data) == "goexit" {
			runtime.Goexit()
		}
		return s.Send(m)
	}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.duplex.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ipctest.Stop(t, v.duplex) })
	v.calls, v.streams = dial(t, v.sockets[0]), dial(t, v.sockets[0])
	if v.echoes, err = duplex.NewClient(v.sockets[1]); err != nil {
		t.Fatal(err)
	}
	if err := v.echoes.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ipctest.Stop(t, v.echoes) })
	return v
}

// honest has the honest clients work while something goes on, and returns the 99th percentile of what calls took.
func (v *victim) honest(t *testing.T, meanwhile func()) time.Duration {
	ctx, done := context.WithCancel(t.Context())
	var working sync.WaitGroup
	for what, work := range map[string]func(n uint64) error{"call": v.call, "duplex": v.echo} {
		working.Go(func() {
			for n := uint64(0); ctx.Err() == nil; n++ {
				if err := work(n); err != nil {
					t.Errorf("%s %d of an honest client: %v", what, n, err)
					return
				}
			}
		})
	}
	working.Go(func() {
		if err := v.stream(ctx); err != nil {
			t.Errorf("a stream of an honest client: %v", err)
		}
	})
	meanwhile()
	done()
	working.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	took := v.took
	v.took = nil
	slices.Sort(took)
	if len(took) == 0 {
		return 0
	}
	return took[len(took)*99/100]
}

// call makes a call, every hundredth of 200 kB, and notes what it took.
func (v *victim) call(n uint64) error {
	size := 100
	if n%100 == 99 {
		size = 200_000
	}
	request := binary.BigEndian.AppendUint64(bytes.Repeat([]byte{'h'}, size), n)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	began := time.Now()
	response, err := v.calls.Call(ctx, "echo", request)
	if took := time.Since(began); err == nil {
		v.mu.Lock()
		v.took = append(v.took, took)
		v.mu.Unlock()
	}
	if err == nil && !bytes.Equal(request, response) {
		return fmt.Errorf("% x", response)
	}
	return err
}

// echo sends a message of package duplex and waits for its answer.
func (v *victim) echo(n uint64) error {
	want := duplex.Message{Type: uint32(n), Data: fmt.Append(nil, n)}
	if err := v.echoes.Send(want); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	got, err := v.echoes.Receive(ctx)
	if err == nil && (got.Type != want.Type || !bytes.Equal(got.Data, want.Data)) {
		return fmt.Errorf("got %d %q, want %d %q", got.Type, got.Data, want.Type, want.Data)
	}
	return err
}

// stream sends messages over a stream, one at a time, until the context ends.
func (v *victim) stream(until context.Context) error {
	ctx, cancel := context.WithTimeout(context.Background(), *hostileTime+patience)
	defer cancel()
	s, err := v.streams.OpenStream(ctx, "stream", nil)
	if err != nil {
		return err
	}
	defer s.Close()
	for n := 0; until.Err() == nil; n++ {
		if err := s.Send(fmt.Append(nil, n)); err != nil {
			return err
		}
		if data, err := s.Receive(); err != nil || string(data) != fmt.Sprint(n) {
			return fmt.Errorf("%q, want %d: %w", data, n, err)
		}
	}
	return nil
}

// usage is what this process uses, the clients included.
type usage struct {
	heap, live, goroutines, descriptors int // heap is with garbage.
}

func used() usage {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	u := usage{
		heap: int(m.HeapInuse + m.StackInuse), live: int(live[0].Value.Uint64()),
		goroutines: runtime.NumGoroutine(),
	}
	if entries, err := os.ReadDir("/proc/self/fd"); err == nil {
		u.descriptors = len(entries)
	}
	return u
}

// TestHostileConversations runs each kind beside the honest clients: nothing of theirs fails, and
// memory, goroutines and descriptors stay within the default limits.
func TestHostileConversations(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	v := startVictim(t)
	quiet := v.honest(t, func() { time.Sleep(*hostileTime) })
	t.Logf("%-45s %8s %10s %10s %10s %6s %12s", "kind", "conns", "memory", "live", "goroutines", "fds", "p99")
	t.Logf("%-45s %8d %10s %10s %10s %6s %12v", "none", 0, "", "", "", "", quiet)
	for i, k := range hostileKinds {
		runtime.GC()
		before := used()
		peak, made := before, 0
		address := v.sockets[0]
		if k.duplex {
			address = v.sockets[1]
		}
		p99 := v.honest(t, func() {
			var err error
			made, err = runHostile(t, i, address, *hostileTime, func() {
				now := used()
				peak.heap, peak.live = max(peak.heap, now.heap), max(peak.live, now.live)
				peak.goroutines, peak.descriptors = max(peak.goroutines, now.goroutines), max(peak.descriptors, now.descriptors)
			})
			if err != nil {
				t.Error(err)
			}
		})
		t.Logf("%-45s %8d %7d kB %7d kB %10d %6d %12v", k.name, made, (peak.heap-before.heap)>>10,
			(peak.live-before.live)>>10, peak.goroutines-before.goroutines,
			peak.descriptors-before.descriptors, p99)
		// The calls of a connection, each with a stream, and connections.
		if n := peak.goroutines - before.goroutines; n > 2*16<<10+2000 {
			t.Errorf("%s: %d goroutines", k.name, n)
		}
		if n := peak.descriptors - before.descriptors; n > 1024+64 {
			t.Errorf("%s: %d descriptors", k.name, n)
		}
		// SetMaxMemory twice, WithMaxSendMemory, WithMaxReadMemory, and a response of 1 MiB that each handler is
		// about to return: on a busy machine many have begun.
		limit := int64(2*128+128+64+256+max(256, peak.goroutines-before.goroutines)) << 20
		if n := int64(peak.live - before.live); n > limit {
			t.Errorf("%s: %d bytes are live, want %d at most", k.name, n, limit)
		}
		if n := int64(peak.heap - before.heap); n > 3*limit { // Garbage, which the collector allows.
			t.Errorf("%s: %d bytes, want %d at most", k.name, n, 3*limit)
		}
		ipctest.Until(t, "they are gone", func() bool {
			return v.rpc.Metrics().Connections <= 2 && v.duplex.Metrics().Connections <= 1 && v.rpc.ActiveCalls() == 0
		})
	}
}
