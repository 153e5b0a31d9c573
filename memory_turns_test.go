// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
)

// TestMemoryTurns: users are served in turn, and of one user who came first.
func TestMemoryTurns(t *testing.T) {
	for name, test := range map[string]struct {
		users []string
		steps int
		want  []int
	}{
		"one user":                      {[]string{"a", "a", "a"}, 1, []int{0, 1, 2}},
		"one of many":                   {[]string{"a", "a", "a", "a", "b"}, 1, []int{0, 4, 1, 2, 3}},
		"three users":                   {[]string{"a", "a", "b", "a", "c", "b"}, 1, []int{0, 2, 4, 1, 5, 3}},
		"nobody is known":               {[]string{"", "", ""}, 1, []int{0, 1, 2}},
		"a message keeps its place":     {[]string{"a", "a"}, 3, []int{0, 0, 0, 1, 1, 1}},
		"also among those of two users": {[]string{"a", "a", "b"}, 2, []int{0, 2, 0, 2, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := udsipc.MemoryTurns(test.users, test.steps); !slices.Equal(got, test.want) {
				t.Errorf("served in the order %v, want %v", got, test.want)
			}
		})
	}
}

// announced is the first part of a message of size bytes.
func announced(size, part int) []byte {
	return append(binary.AppendUvarint(nil, uint64(size)), make([]byte, part)...)
}

// TestStallingPeersDoNotHoldMemory: many that send three quarters of a message and stall, again and again, hold up a
// message of somebody else for minutes at most, of the same user too.
func TestStallingPeersDoNotHoldMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit, large, stalling = 1 << 20, 400 << 10, 300
		n := new(simNet)
		var got atomic.Int64
		r := startReader(t, func([]byte) error { got.Add(1); return nil }, "x", udsipc.WithListener(n.listen()), udsipc.WithMaxReadMemory(limit))
		ctx, cancel := context.WithCancel(t.Context())
		for range stalling {
			go func() { // Ends with ctx, or with the Reader.
				for ctx.Err() == nil {
					conn, err := n.dial(ctx)
					if err != nil {
						return
					}
					conn.Write(announced(large, large*3/4))
					conn.Read(make([]byte, 1)) // Until it is sent away.
					conn.Close()
				}
			}()
		}
		time.Sleep(time.Second)
		conn, err := n.dial(ctx)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		go conn.Write(announced(large, large))
		for got.Load() == 0 && time.Since(began) < time.Hour {
			time.Sleep(time.Second)
		}
		if took := time.Since(began); took > 10*time.Minute {
			t.Errorf("a message of %d bytes took %v", large, took)
		}
		cancel()
		ended, end := context.WithTimeout(context.Background(), time.Second)
		defer end()
		_ = r.Stop(ended) // The others are still there.
		conn.Close()
	})
}

// TestMemoryIsNotHeldForEver: without WithMessageTimeout as well, by a byte now and then, or by nothing at all.
func TestMemoryIsNotHeldForEver(t *testing.T) {
	for name, pause := range map[string]time.Duration{"nothing": time.Hour, "a byte a second": time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const large = 400 << 10
				n := new(simNet)
				var got atomic.Int64
				errs := collect()
				r := startReader(t, func([]byte) error { got.Add(1); return nil }, "x", udsipc.WithListener(n.listen()), udsipc.WithMaxReadMemory(256<<10),
					udsipc.WithInactivityTimeout(0), udsipc.WithFirstMessageTimeout(0), udsipc.WithMessageTimeout(0), udsipc.WithReaderErrorCallback(errs.callback))
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				holding, err := n.dial(ctx)
				if err != nil {
					t.Fatal(err)
				}
				mustWriteAll := func(b []byte) {
					if _, err := holding.Write(b); err != nil && ctx.Err() == nil && r.Metrics().TooSlow == 0 {
						t.Error(err)
					}
				}
				go func() { // Ends with its connection or ctx.
					mustWriteAll(announced(large, large*3/4))
					for r.Metrics().TooSlow == 0 && ctx.Err() == nil {
						time.Sleep(pause)
						mustWriteAll(make([]byte, 1))
					}
				}()
				time.Sleep(10 * time.Minute)
				if m := r.Metrics(); m.TooSlow != 0 || m.ReadMemory == 0 {
					t.Errorf("ended although nobody waits: %+v", m)
				}
				other, err := n.dial(ctx)
				if err != nil {
					t.Fatal(err)
				}
				mustWrite(t, other, announced(large, large))
				synctest.Wait()
				if got.Load() != 1 {
					time.Sleep(40 * time.Second)
				}
				errs.want(t, udsipc.ErrTooSlow)
				if m := r.Metrics(); got.Load() != 1 || m.TooSlow != 1 {
					t.Errorf("%d messages came: %+v", got.Load(), m)
				}
				cancel()
				holding.Close()
				other.Close()
				time.Sleep(2 * time.Hour)
				stop(t, r)
			})
		})
	}
}

// TestStreamsDoNotHoldMemory: connections that always have a large message to send give way to one that waits.
func TestStreamsDoNotHoldMemory(t *testing.T) {
	t.Parallel()
	const size, streams = 1 << 20, 12
	path := socketPath(t)
	var loud, quiet atomic.Int64
	r := startReader(t, func(data []byte) error {
		if data[0] == 'q' {
			quiet.Add(1)
		} else {
			loud.Add(1)
		}
		return nil
	}, path, udsipc.WithMaxReadMemory(2<<20))
	f := startFlood(t, path, streams, size)
	until(t, "the streams flow", func() bool { return loud.Load() > 100 })
	fewest := int64(1 << 30)
	for range 5 {
		conn := mustDial(t, path)
		before, arrived := loud.Load(), quiet.Load()
		go conn.Write(append(binary.AppendUvarint(nil, size), bytes.Repeat([]byte("q"), size)...))
		until(t, "the message among the streams is handled", func() bool { return quiet.Load() > arrived })
		fewest = min(fewest, loud.Load()-before) // A busy machine may have sent it late.
		conn.Close()
	}
	if fewest > 4*streams {
		t.Errorf("%d messages of %d streams came before it", fewest, streams)
	}
	f.end()
	until(t, "all memory is given back", func() bool { return r.Metrics().ReadMemory == 0 })
}

// TestWaitForMemoryAcknowledgesFirst: the writer need not wait as well.
func TestWaitForMemoryAcknowledgesFirst(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	r := startReader(t, ignore, path, udsipc.WithMaxReadMemory(64<<10))
	const large = 1 << 20
	mustWrite(t, mustDial(t, path), announced(large, 100<<10))
	until(t, "all memory is taken", func() bool { return r.Metrics().ReadMemory > 64<<10 })
	conn, _ := openSession(t, path, udsipc.Hello{Writer: udsipc.WriterID{1}, Attempt: 1, First: 1})
	mustWrite(t, conn, append(frames("a"), announced(large, 50<<10)...))
	awaitAck(t, conn, 1)
	if m := r.Metrics(); m.TooSlow != 0 || m.ReadMemoryWaits == 0 {
		t.Errorf("acknowledged only when there was memory again: %+v", m)
	}
}

// TestBufferAfterAVeryLargeMessage: one that is larger than any buffer that is kept does not make later bytes cost as much.
func TestBufferAfterAVeryLargeMessage(t *testing.T) {
	const size = 20 << 20
	path := socketPath(t)
	got := make(chan struct{}, 10)
	r := startReader(t, func([]byte) error { got <- struct{}{}; return nil }, path, udsipc.WithMaxMessageSize(64<<20))
	conn := mustDial(t, path)
	mustWrite(t, conn, announced(size, size))
	await(t, "the message", got)
	mustWrite(t, conn, announced(size, 0))
	before := memoryAllocated()
	for range 100 {
		reads := r.Metrics().Reads
		mustWrite(t, conn, []byte{0})
		until(t, "the byte is read", func() bool { return r.Metrics().Reads > reads })
	}
	if allocated := memoryAllocated() - before; allocated > size {
		t.Errorf("100 bytes made the Reader allocate %d MiB", allocated>>20)
	}
}
