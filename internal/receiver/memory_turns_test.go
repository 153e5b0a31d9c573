// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/wire"
)

// TestReadMemory_StallingPeers_ReleaseIt: many that send three quarters of a message and stall,
// again and again, hold up a message of somebody else for minutes at most, of the same user too.
func TestReadMemory_StallingPeers_ReleaseIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit, large, stalling = 1 << 20, 400 << 10, 300
		n := new(ipctest.SimNet)
		var got atomic.Int64
		r := ipctest.StartReader(t, func([]byte) error { got.Add(1); return nil }, "x",
			udsipc.WithListener(n.Listen()), udsipc.WithMaxReadMemory(limit))
		ctx, cancel := context.WithCancel(t.Context())
		for range stalling {
			go func() { // Ends with ctx, or with the Reader.
				for ctx.Err() == nil {
					conn, err := n.Dial(ctx)
					if err != nil {
						return
					}
					conn.Write(ipctest.Announced(large, large*3/4))
					conn.Read(make([]byte, 1)) // Until it is sent away.
					conn.Close()
				}
			}()
		}
		time.Sleep(time.Second)
		conn, err := n.Dial(ctx)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		go conn.Write(ipctest.Announced(large, large))
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

// TestReadMemory_Trickle_IsEnded: without WithMessageTimeout as well, by a byte now and then, or by nothing at all.
func TestReadMemory_Trickle_IsEnded(t *testing.T) {
	for name, pause := range map[string]time.Duration{"nothing": time.Hour, "a byte a second": time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const large = 400 << 10
				n := new(ipctest.SimNet)
				var got atomic.Int64
				errs := ipctest.Collect()
				r := ipctest.StartReader(t, func([]byte) error { got.Add(1); return nil }, "x",
					udsipc.WithListener(n.Listen()), udsipc.WithMaxReadMemory(256<<10),
					udsipc.WithInactivityTimeout(0), udsipc.WithFirstMessageTimeout(0),
					udsipc.WithMessageTimeout(0),
					udsipc.WithReaderErrorCallback(errs.Callback))
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				holding, err := n.Dial(ctx)
				if err != nil {
					t.Fatal(err)
				}
				mustWriteAll := func(b []byte) {
					if _, err := holding.Write(b); err != nil && ctx.Err() == nil && r.Metrics().TooSlow == 0 {
						t.Error(err)
					}
				}
				go func() { // Ends with its connection or ctx.
					mustWriteAll(ipctest.Announced(large, large*3/4))
					for r.Metrics().TooSlow == 0 && ctx.Err() == nil {
						time.Sleep(pause)
						mustWriteAll(make([]byte, 1))
					}
				}()
				time.Sleep(10 * time.Minute)
				if m := r.Metrics(); m.TooSlow != 0 || m.ReadMemory == 0 {
					t.Errorf("ended although nobody waits: %+v", m)
				}
				other, err := n.Dial(ctx)
				if err != nil {
					t.Fatal(err)
				}
				ipctest.MustWrite(t, other, ipctest.Announced(large, large))
				synctest.Wait()
				if got.Load() != 1 {
					time.Sleep(40 * time.Second)
				}
				errs.Want(t, udsipc.ErrTooSlow)
				if m := r.Metrics(); got.Load() != 1 || m.TooSlow != 1 {
					t.Errorf("%d messages came: %+v", got.Load(), m)
				}
				cancel()
				holding.Close()
				other.Close()
				time.Sleep(2 * time.Hour)
				ipctest.Stop(t, r)
			})
		})
	}
}

// TestReadMemory_BusyConnections_Yield: connections that always have a large message to send give
// way to one that waits.
func TestReadMemory_BusyConnections_Yield(t *testing.T) {
	t.Parallel()
	const size, streams = 1 << 20, 12
	path := ipctest.SocketPath(t)
	var loud, quiet atomic.Int64
	r := ipctest.StartReader(t, func(data []byte) error {
		if data[0] == 'q' {
			quiet.Add(1)
		} else {
			loud.Add(1)
		}
		return nil
	}, path, udsipc.WithMaxReadMemory(2<<20))
	f := ipctest.StartFlood(t, path, streams, size)
	ipctest.Until(t, "the streams flow", func() bool { return loud.Load() > 100 })
	fewest := int64(1 << 30)
	for range 5 {
		conn := ipctest.MustDial(t, path)
		before, arrived := loud.Load(), quiet.Load()
		go conn.Write(append(binary.AppendUvarint(nil, size), bytes.Repeat([]byte("q"), size)...))
		ipctest.Until(t, "the message among the streams is handled", func() bool { return quiet.Load() > arrived })
		fewest = min(fewest, loud.Load()-before) // A busy machine may have sent it late.
		conn.Close()
	}
	if fewest > 4*streams {
		t.Errorf("%d messages of %d streams came before it", fewest, streams)
	}
	f.End()
	ipctest.Until(t, "all memory is given back", func() bool { return r.Metrics().ReadMemory == 0 })
}

// TestReadMemory_Wait_AcknowledgesFirst: the writer need not wait as well.
func TestReadMemory_Wait_AcknowledgesFirst(t *testing.T) {
	t.Parallel()
	path := ipctest.SocketPath(t)
	r := ipctest.StartReader(t, ipctest.Ignore, path, udsipc.WithMaxReadMemory(64<<10))
	const large = 1 << 20
	ipctest.MustWrite(t, ipctest.MustDial(t, path), ipctest.Announced(large, 100<<10))
	ipctest.Until(t, "all memory is taken", func() bool { return r.Metrics().ReadMemory > 64<<10 })
	conn, _ := ipctest.OpenSession(t, path, wire.Hello{Writer: wire.WriterID{1}, Epoch: 1, FirstSeq: 1})
	ipctest.MustWrite(t, conn, append(ipctest.Frames("a"), ipctest.Announced(large, 50<<10)...))
	ipctest.AwaitAck(t, conn, 1)
	if m := r.Metrics(); m.TooSlow != 0 {
		t.Errorf("acknowledged only when there was memory again: %+v", m)
	}
	ipctest.Until(t, "the session waits for memory", func() bool { return r.Metrics().ReadMemoryWaits > 0 })
}

// TestReader_AfterHugeMessage_UsesSmallBuffer: one that is larger than any buffer that is kept does
// not make later bytes cost as much.
func TestReader_AfterHugeMessage_UsesSmallBuffer(t *testing.T) {
	const size = 20 << 20
	path := ipctest.SocketPath(t)
	got := make(chan struct{}, 10)
	r := ipctest.StartReader(t, func([]byte) error { got <- struct{}{}; return nil }, path,
		udsipc.WithMaxMessageSize(64<<20))
	conn := ipctest.MustDial(t, path)
	ipctest.MustWrite(t, conn, ipctest.Announced(size, size))
	ipctest.Await(t, "the message", got)
	ipctest.MustWrite(t, conn, ipctest.Announced(size, 0))
	before := ipctest.MemoryAllocated()
	for range 100 {
		reads := r.Metrics().Reads
		ipctest.MustWrite(t, conn, []byte{0})
		ipctest.Until(t, "the byte is read", func() bool { return r.Metrics().Reads > reads })
	}
	if allocated := ipctest.MemoryAllocated() - before; allocated > size {
		t.Errorf("100 bytes made the Reader allocate %d MiB", allocated>>20)
	}
}
