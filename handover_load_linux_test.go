// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

// TestHandOverOfLargeMessages: what comes to rest gives its read memory to those that still need some for that.
func TestHandOverOfLargeMessages(t *testing.T) {
	for name, test := range map[string]struct {
		connections, size int
		opts              []udsipc.ReaderOption
	}{
		"defaults":     {10, 9 << 20, nil},
		"small memory": {6, 1 << 20, []udsipc.ReaderOption{udsipc.WithMaxReadMemory(2 << 20)}},
		"many buffers": {100, 1000, []udsipc.ReaderOption{udsipc.WithMaxReadMemory(1 << 20)}},
	} {
		t.Run(name, func(t *testing.T) {
			systemd := fakeNotify(t, socketPath(t))
			t.Setenv("NOTIFY_SOCKET", systemd.conn.LocalAddr().String())
			path := socketPath(t)
			var handled atomic.Int64
			r := startReader(t, func([]byte) error { handled.Add(1); return nil }, path, test.opts...)
			startFlood(t, path, test.connections, test.size)
			until(t, "it flows", func() bool {
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

// TestFailedHandOverLeavesNothing: what is known of the writers is wrong with the next message.
func TestFailedHandOverLeavesNothing(t *testing.T) {
	for limit := 1; limit <= 4; limit++ { // The listener, the connection, the memory, and the probe, for which there is no room.
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			systemd := fakeNotify(t, socketPath(t))
			systemd.limitTo(limit)
			t.Setenv("NOTIFY_SOCKET", systemd.conn.LocalAddr().String())
			before := udsipc.Slots()
			path, errs := socketPath(t), collect()
			r := startReader(t, ignore, path, udsipc.WithReaderErrorCallback(errs.callback))
			mustWrite(t, mustDial(t, path), frames("x"))
			until(t, "it is there", func() bool { return r.Metrics().Received == 1 })
			if err := r.HandOver(t.Context()); err != nil {
				t.Error(err)
			}
			if kept := r.Metrics().HandedOver == 1; kept != (limit == 4) {
				t.Errorf("handed over: %v", kept)
			}
			if limit == 4 {
				return
			}
			errs.want(t, udsipc.ErrStoreFull)
			until(t, "nothing is stored", func() bool { return len(systemd.names()) == 0 })
			if after := udsipc.Slots(); after != before {
				t.Errorf("%d slots are taken, %d were before", after, before)
			}
			checkEmpty(t, filepath.Dir(path))
		})
	}
}

// TestFailedHandOverUnderLoad: many connections that send large messages, and a store that has no room for them: nothing
// of what the kernel had taken is lost.
func TestFailedHandOverUnderLoad(t *testing.T) {
	const connections, size = 20, 1 << 20
	systemd := fakeNotify(t, socketPath(t))
	systemd.limitTo(5)
	t.Setenv("NOTIFY_SOCKET", systemd.conn.LocalAddr().String())
	path, errs := socketPath(t), collect()
	want := make([]byte, size)
	var handled, damaged atomic.Int64
	r := startReader(t, func(data []byte) error {
		if handled.Add(1); !bytes.Equal(data, want) {
			damaged.Add(1)
		}
		return nil
	}, path, udsipc.WithMaxReadMemory(4<<20), udsipc.WithReaderErrorCallback(errs.callback))
	f := startFlood(t, path, connections, size)
	until(t, "it flows", func() bool { return handled.Load() > 3*connections && r.Metrics().Connections == connections })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := r.HandOver(ctx); err != nil {
		t.Error(err)
	}
	f.end()
	if sent, m := f.sent.Load(), r.Metrics(); handled.Load() != sent || damaged.Load() != 0 || m.HandedOver != 0 {
		t.Errorf("%d of %d messages were handled, %d damaged: %+v", handled.Load(), sent, damaged.Load(), m)
	}
	until(t, "nothing is stored", func() bool { return len(systemd.names()) == 0 })
}
