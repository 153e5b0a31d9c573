// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestReader_StopBeforeStart_Returns: again, from several goroutines, with a context that has ended.
func TestReader_StopBeforeStart_Returns(t *testing.T) {
	taken := ipctest.SocketPath(t)
	ipctest.StartReader(t, ipctest.Ignore, taken)
	for name, path := range map[string]string{"not started": ipctest.SocketPath(t), "the start has failed": taken} {
		t.Run(name, func(t *testing.T) {
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			for range 50 {
				r, err := udsipc.NewReader(ipctest.Ignore, path)
				if err != nil {
					t.Fatal(err)
				}
				if path == taken && r.Start() == nil {
					t.Fatal("two Readers listen at one path")
				}
				var wg sync.WaitGroup
				for range 4 {
					wg.Go(func() {
						if err := r.Stop(ended); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				ipctest.Await(t, "Done", r.Done())
			}
		})
	}
}

// TestReader_StopAgain_FindsAllDone finds everything done.
func TestReader_StopAgain_FindsAllDone(t *testing.T) {
	r := ipctest.StartReader(t, ipctest.Ignore, ipctest.SocketPath(t))
	ipctest.Stop(t, r)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 {
		if err := r.Stop(ended); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReader_StopBusyAcceptLoop_ServesBacklog: the goroutine that accepts may run long after Stop
// was called. Whoever has connected until then, and nobody else, is served.
func TestReader_StopBusyAcceptLoop_ServesBacklog(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	ipctest.OverAddresses(t, func(t *testing.T, address string) {
		const rounds, conns = 2, 10
		for round := range rounds {
			var handled atomic.Int64
			r := ipctest.StartReader(t, func([]byte) error { handled.Add(1); return nil }, address)
			time.Sleep(time.Millisecond) // It waits in Accept now, most likely.
			var quit atomic.Bool
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for !quit.Load() {
					}
				})
			}
			for range conns {
				conn := ipctest.MustDial(t, address)
				ipctest.MustWrite(t, conn, ipctest.Frames("a message"))
				if half, ok := conn.(*net.TCPConn); ok {
					_ = half.CloseWrite() // It does not know the goodbye.
				}
			}
			ipctest.Stop(t, r)
			quit.Store(true)
			wg.Wait()
			if handled.Load() != conns {
				t.Fatalf(
					"round %d: %d of %d messages that the kernel had taken before Stop were handled",
					round, handled.Load(), conns)
			}
		}
	})
}

// TestReader_ForcedStop_CallsNoHandler: the one that runs finishes. What was read behind its message is counted, and
// the Writer is told if the handler does not keep that from happening.
func TestReader_ForcedStop_CallsNoHandler(t *testing.T) {
	t.Parallel()
	for name, inTime := range map[string]bool{"a handler that heeds its context": true, "one that does not": false} {
		t.Run(name, func(t *testing.T) {
			ipctest.OverModes(t, func(t *testing.T, on *ipctest.Route) {
				const messages = 1000
				entered, leave := make(chan struct{}, messages), make(chan struct{})
				errs := ipctest.Collect()
				r := on.StartDeliveryReader(t, func(ctx context.Context, _ *udsipc.Delivery) error {
					entered <- struct{}{}
					if <-ctx.Done(); !inTime {
						<-leave
					}
					return nil
				}, udsipc.WithReaderErrorCallback(errs.Callback))
				w := on.StartedWriter(t, udsipc.WithMaxBackoff(time.Hour))
				for range messages {
					ipctest.MustWriteMessage(t, w, "message")
				}
				ipctest.Await(t, "the handler", entered)
				ended, cancel := context.WithCancel(t.Context())
				cancel()
				if err := r.Stop(ended); err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("Stop: %v", err)
				}
				close(leave)
				ipctest.Until(t, "the connection is gone", func() bool { return r.Metrics().Connections == 0 })
				ipctest.Until(t, "the Writer knows", func() bool { return w.Metrics().LostConnections > 0 })
				m := r.Metrics()
				if m.Received != 1 || len(entered) != 0 {
					t.Errorf("%d more handlers were called: %+v", len(entered), m)
				}
				if m.Discarded > 0 {
					errs.Want(t, udsipc.ErrStopped)
				}
				ipctest.CheckAccounting(t, w, m.Received+m.Discarded)
				if m := w.Metrics(); inTime && !on.Acknowledged && 1+m.PossiblyLost+m.Queued != messages {
					t.Errorf("one message was handled, %d of %d are said to be lost, %d are queued",
						m.PossiblyLost, messages, m.Queued)
				}
			})
		})
	}
}

// TestReader_StopLateAcceptLoop_ServesBacklog: who had connected and written before Stop is served,
// although the goroutine that accepts is busy for longer than a listener is emptied for.
func TestReader_StopLateAcceptLoop_ServesBacklog(t *testing.T) {
	t.Parallel()
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		t.Parallel()
		if on.Secure {
			t.Skip("the listener is the same")
		}
		busy, entered := make(chan struct{}), make(chan struct{}, 1)
		var handled atomic.Uint64
		r := on.StartReader(t, func([]byte) error { handled.Add(1); return nil }, udsipc.WithMaxConnections(1),
			udsipc.WithReaderErrorCallback(func(err error, _ string) {
				if errors.Is(err, udsipc.ErrTooManyConnections) {
					entered <- struct{}{}
					<-busy
				}
			}))
		first := on.Dial(t)
		ipctest.Until(t, "the first one is in", func() bool { return r.Metrics().Connections == 1 })
		on.Dial(t)
		ipctest.Await(t, "the callback", entered)
		first.Close()
		late := on.Dial(t)
		ipctest.MustWrite(t, late, ipctest.Frames("in the backlog"))
		_ = late.(interface{ CloseWrite() error }).CloseWrite()
		stopped := make(chan error, 1)
		go func() { stopped <- r.Stop(context.Background()) }()
		ipctest.Until(t, "Stop has begun", func() bool { return errors.Is(r.Start(), udsipc.ErrStopped) })
		time.Sleep(20 * time.Millisecond) // The time that a listener is emptied for passes.
		close(busy)
		if err := ipctest.Await(t, "Stop", stopped); err != nil || handled.Load() != 1 {
			t.Errorf("Stop: %v, %d messages handled, want 1", err, handled.Load())
		}
	})
}

// TestReader_StopDuringConnects_ServesAccepted: whoever has connected is served, also one who did
// so while Stop looked for the last one. Each client ends its own side, and the end of file of the
// Reader says that it was served.
func TestReader_StopDuringConnects_ServesAccepted(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long: a TCP client tries again for a second")
	}
	ipctest.OverAddresses(t, func(t *testing.T, address string) {
		if runtime.GOOS != "linux" && strings.HasPrefix(address, "tcp") {
			t.Skip("a listener cannot be closed without a loss there")
		}
		const clients = 4
		rounds := 5
		if strings.HasPrefix(address, "tcp") {
			rounds = 2
		}
		network, name := ipctest.NetworkOf(address)
		for range rounds {
			var handled, served atomic.Int64
			r := ipctest.StartReader(t, func([]byte) error { handled.Add(1); return nil }, address)
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for {
						conn, err := net.Dial(network, name)
						if err != nil {
							return // Refused: the Reader has ended.
						}
						conn.SetDeadline(time.Now().Add(10 * time.Second))
						if _, err := conn.Write(ipctest.Frames("a message")); err == nil {
							_ = conn.(interface{ CloseWrite() error }).CloseWrite()
							if _, err := io.ReadAll(conn); err != nil {
								t.Errorf("not served: %v", err)
							}
							served.Add(1)
						} else if !errors.Is(err, syscall.EPIPE) {
							t.Errorf("writing: %v", err)
						}
						conn.Close()
					}
				})
			}
			ipctest.Until(t, "clients are served", func() bool { return handled.Load() > 100 })
			ipctest.Stop(t, r)
			wg.Wait()
			if handled.Load() != served.Load() {
				t.Errorf("%d messages were sent, %d handled", served.Load(), handled.Load())
			}
		}
	})
}
