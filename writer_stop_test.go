// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

func TestWriter_Flush_WaitsForDelivery(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		var handled atomic.Int64
		gate, entered := make(chan struct{}), make(chan struct{})
		open := sync.OnceFunc(func() { close(gate) })
		defer open()
		on.StartReader(t, func([]byte) error {
			if handled.Add(1) == 1 {
				close(entered)
			}
			<-gate
			return nil
		}, udsipc.WithReadBufferSize(512))
		w := on.StartWriter(t, udsipc.WithWriteTimeout(10*time.Millisecond))
		const n = 1000
		for range n {
			ipctest.MustWriteMessage(t, w, strings.Repeat("x", 500))
		}
		ctx, cancel := context.WithCancel(t.Context())
		flushed := make(chan error, 1)
		go func() { flushed <- w.Flush(ctx) }()
		ipctest.Await(t, "the first message", entered)
		cancel()
		if err := ipctest.Await(t, "Flush", flushed); on.FlushMeansRead() && !errors.Is(err, context.Canceled) {
			t.Errorf("Flush before anything was read: %v", err)
		}
		open()
		if err := w.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if got := handled.Load(); on.FlushMeansRead() && got < n-2 { // Read, but perhaps not handled yet.
			t.Errorf("flushed, but only %d of %d messages were handled", got, n)
		}
	})
}

func TestWriter_Flush_ReportsLosses(t *testing.T) {
	path := ipctest.SocketPath(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := ipctest.NewWriter(t, path)
	ipctest.MustStart(t, w)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ipctest.MustWriteMessage(t, w, "lost")
	flushed := make(chan error, 1)
	go func() { flushed <- w.Flush(t.Context()) }()
	ipctest.Until(t, "it is sent", func() bool { return w.Metrics().Sent == 1 })
	conn.Close()
	if err := ipctest.Await(t, "Flush", flushed); !errors.Is(err, udsipc.ErrConnectionClosed) {
		t.Errorf("Flush: %v, want ErrConnectionClosed", err)
	}
}

func TestWriter_StartStopAnyOrder_IsIdempotent(t *testing.T) {
	path := ipctest.SocketPath(t)
	ipctest.StartReader(t, func([]byte) error { return nil }, path)
	w := ipctest.NewWriter(t, path)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := w.Start(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	ipctest.MustWriteMessage(t, w, "x")
	for range 10 {
		wg.Go(func() { ipctest.Stop(t, w) })
	}
	wg.Wait()
	ipctest.Stop(t, w)
	if err := w.Start(); !errors.Is(err, udsipc.ErrStopped) {
		t.Errorf("Start after Stop: %v", err)
	}
	if err := w.WriteMessage([]byte("x")); !errors.Is(err, udsipc.ErrStopped) {
		t.Errorf("WriteMessage after Stop: %v", err)
	}
	if err := w.WriteMessageContext(t.Context(), []byte("x")); !errors.Is(err, udsipc.ErrStopped) {
		t.Errorf("WriteMessageContext after Stop: %v", err)
	}
	if m := w.Metrics(); m.Sent != 1 || m.Connected {
		t.Errorf("%+v, want 1 sent", m)
	}
}

// TestWriter_StopContextEnds_ReturnsUndelivered: before Start, while nobody listens, and while the peer does not read.
func TestWriter_StopContextEnds_ReturnsUndelivered(t *testing.T) {
	const n = 100
	for _, test := range []struct {
		name  string
		start func(t *testing.T, w *udsipc.Writer, path string)
		size  int
	}{
		{"never started", func(*testing.T, *udsipc.Writer, string) {}, 10},
		{"nobody listens", func(t *testing.T, w *udsipc.Writer, _ string) { ipctest.MustStart(t, w) }, 10},
		{"does not read", func(t *testing.T, w *udsipc.Writer, path string) {
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			ipctest.MustStart(t, w)
			ipctest.Until(t, "the socket is full", func() bool { return w.Metrics().Sent > 0 })
		}, 20_000},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := ipctest.SocketPath(t)
			var back []byte
			w := ipctest.NewWriter(t, path, udsipc.WithWriteTimeout(10*time.Millisecond),
				udsipc.WithUndelivered(func(data []byte) { back = append(back, data[0]) }))
			for i := range n {
				if err := w.WriteMessage(bytes.Repeat([]byte{byte(i)}, test.size)); err != nil {
					t.Fatal(err)
				}
			}
			test.start(t, w, path)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			defer cancel()
			err := w.Stop(ctx)
			m := w.Metrics()
			if m.Sent+m.Undelivered != n || uint64(len(back)) != m.Undelivered ||
				!slices.IsSorted(back) || back[len(back)-1] != n-1 {
				t.Errorf("%+v, %d handed back: %v", m, len(back), back)
			}
			if want := fmt.Sprintf(" %d messages", m.Undelivered); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Stop: %v, want %q in it", err, want)
			}
			if err := w.Stop(t.Context()); err != nil {
				t.Errorf("the second Stop: %v", err)
			}
		})
	}
}

// TestWriter_StopWithoutReader_KeepsTrying: there is no reader when Stop is called, but later.
func TestWriter_StopWithoutReader_KeepsTrying(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		w := on.NewWriter(t)
		ipctest.MustStart(t, w)
		ipctest.MustWriteMessage(t, w, "at last")
		stopped := make(chan error, 1)
		go func() { stopped <- w.Stop(t.Context()) }()
		ipctest.Until(t, "a few attempts have failed", func() bool { return w.Metrics().DialErrors > 3 })
		got := make(chan string, 1)
		on.StartReader(t, func(data []byte) error { got <- string(data); return nil })
		if data := ipctest.Await(t, "the message", got); data != "at last" {
			t.Errorf("got %q", data)
		}
		if err := ipctest.Await(t, "Stop", stopped); err != nil {
			t.Error(err)
		}
	})
}

// TestWriter_StopContextEnds_Returns: also from inside a callback, and while a callback is stuck.
func TestWriter_StopContextEnds_Returns(t *testing.T) {
	impatient := func(w *udsipc.Writer) error {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		return w.Stop(ctx)
	}
	t.Run("from a callback", func(t *testing.T) {
		returned := make(chan error, 10)
		var w *udsipc.Writer
		ready := make(chan struct{})
		w = ipctest.NewWriter(t, ipctest.SocketPath(t), udsipc.WithWriterErrorCallback(func(error, string) {
			<-ready
			returned <- impatient(w)
		}))
		close(ready)
		ipctest.MustWriteMessage(t, w, "x")
		ipctest.MustStart(t, w)
		if err := ipctest.Await(t, "Stop", returned); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop: %v", err)
		}
	})
	t.Run("stuck callback", func(t *testing.T) {
		release := make(chan struct{})
		stuck := make(chan struct{}, 10)
		w := ipctest.NewWriter(t, ipctest.SocketPath(t), udsipc.WithStateCallback(func(udsipc.State, error) {
			stuck <- struct{}{}
			<-release
		}))
		ipctest.MustWriteMessage(t, w, "x")
		ipctest.MustStart(t, w)
		<-stuck
		if err := impatient(w); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop: %v", err)
		}
		close(release)
	})
}
