// SPDX-License-Identifier: Apache-2.0

package systemd_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/systemd"
)

// TestHandOver_LargeMessages_ReleasesReadMemory: what comes to rest gives its read memory to those
// that still need some for that.
func TestHandOver_LargeMessages_ReleasesReadMemory(t *testing.T) {
	for name, test := range map[string]struct {
		connections, size int
		opts              []udsipc.ReaderOption
	}{
		"defaults":     {10, 9 << 20, nil},
		"small memory": {6, 1 << 20, []udsipc.ReaderOption{udsipc.WithMaxReadMemory(2 << 20)}},
		"many buffers": {100, 1000, []udsipc.ReaderOption{udsipc.WithMaxReadMemory(1 << 20)}},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "defaults" && (testing.Short() || ipctest.RaceEnabled) {
				t.Skip("a message must be complete within a second, and these are 90 MB together")
			}
			manager := ipctest.FakeNotify(t, ipctest.SocketPath(t))
			t.Setenv("NOTIFY_SOCKET", manager.Conn.LocalAddr().String())
			path := ipctest.SocketPath(t)
			var handled atomic.Int64
			r := ipctest.StartReader(t, func([]byte) error { handled.Add(1); return nil }, path, test.opts...)
			ipctest.StartFlood(t, path, test.connections, test.size)
			ipctest.Until(t, "it flows", func() bool {
				return handled.Load() > int64(3*test.connections) && r.Metrics().Connections == uint64(test.connections)
			})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := r.HandOver(ctx); err != nil {
				t.Error(err)
			}
			if m := r.Metrics(); m.HandedOver != uint64(test.connections) || m.ReadMemory != 0 {
				t.Errorf("%d of %d connections were handed over: %+v", m.HandedOver, test.connections, m)
			}
		})
	}
}

// TestHandOver_Failed_RemovesStored: what is known of the writers is wrong with the next message.
func TestHandOver_Failed_RemovesStored(t *testing.T) {
	// The listener, the connection, the memory, and the probe, for which there is no room.
	for limit := 1; limit <= 4; limit++ {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			manager := ipctest.FakeNotify(t, ipctest.SocketPath(t))
			manager.LimitTo(limit)
			t.Setenv("NOTIFY_SOCKET", manager.Conn.LocalAddr().String())
			before := systemd.Slots()
			path, errs := ipctest.SocketPath(t), ipctest.Collect()
			r := ipctest.StartReader(t, ipctest.Ignore, path, udsipc.WithReaderErrorCallback(errs.Callback))
			ipctest.MustWrite(t, ipctest.MustDial(t, path), ipctest.Frames("x"))
			ipctest.Until(t, "it is there", func() bool { return r.Metrics().Received == 1 })
			if err := r.HandOver(t.Context()); err != nil {
				t.Error(err)
			}
			if kept := r.Metrics().HandedOver == 1; kept != (limit == 4) {
				t.Errorf("handed over: %v", kept)
			}
			if limit == 4 {
				return
			}
			errs.Want(t, systemd.ErrStoreFull)
			ipctest.Until(t, "nothing is stored", func() bool { return len(manager.Names()) == 0 })
			if after := systemd.Slots(); after != before {
				t.Errorf("%d slots are taken, %d were before", after, before)
			}
			ipctest.CheckEmpty(t, filepath.Dir(path))
		})
	}
}

// TestHandOver_FailedUnderLoad_LosesNothing: many connections that send large messages, and a store
// that has no room for them: nothing of what the kernel had taken is lost.
func TestHandOver_FailedUnderLoad_LosesNothing(t *testing.T) {
	const connections, size = 20, 1 << 20
	manager := ipctest.FakeNotify(t, ipctest.SocketPath(t))
	manager.LimitTo(5)
	t.Setenv("NOTIFY_SOCKET", manager.Conn.LocalAddr().String())
	path, errs := ipctest.SocketPath(t), ipctest.Collect()
	want := make([]byte, size)
	var handled, damaged atomic.Int64
	r := ipctest.StartReader(t, func(data []byte) error {
		if handled.Add(1); !bytes.Equal(data, want) {
			damaged.Add(1)
		}
		return nil
	}, path, udsipc.WithMaxReadMemory(4<<20), udsipc.WithReaderErrorCallback(errs.Callback))
	f := ipctest.StartFlood(t, path, connections, size)
	ipctest.Until(t, "it flows",
		func() bool { return handled.Load() > 3*connections && r.Metrics().Connections == connections })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := r.HandOver(ctx); err != nil {
		t.Error(err)
	}
	f.End()
	if sent, m := f.Sent.Load(), r.Metrics(); handled.Load() != sent || damaged.Load() != 0 || m.HandedOver != 0 {
		t.Errorf("%d of %d messages were handled, %d damaged: %+v", handled.Load(), sent, damaged.Load(), m)
	}
	ipctest.Until(t, "nothing is stored", func() bool { return len(manager.Names()) == 0 })
}
