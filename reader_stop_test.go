// SPDX-License-Identifier: Apache-2.0

package udsipc_test

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
)

// TestStopOfAReaderThatNeverListened: again, from several goroutines, with a context that has ended.
func TestStopOfAReaderThatNeverListened(t *testing.T) {
	taken := socketPath(t)
	startReader(t, ignore, taken)
	for name, path := range map[string]string{"not started": socketPath(t), "the start has failed": taken} {
		t.Run(name, func(t *testing.T) {
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			for range 50 {
				r, err := udsipc.NewReader(ignore, path)
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
				await(t, "Done", r.Done())
			}
		})
	}
}

// TestStopAgainWithAnEndedContext finds everything done.
func TestStopAgainWithAnEndedContext(t *testing.T) {
	r := startReader(t, ignore, socketPath(t))
	stop(t, r)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 {
		if err := r.Stop(ended); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStopServesTheBacklogWhenBusy: the goroutine that accepts may run long after Stop was called. Whoever has connected until
// then, and nobody else, is served.
func TestStopServesTheBacklogWhenBusy(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	overAddresses(t, func(t *testing.T, address string) {
		const rounds, conns = 2, 10
		for round := range rounds {
			var handled atomic.Int64
			r := startReader(t, func([]byte) error { handled.Add(1); return nil }, address)
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
				conn := mustDial(t, address)
				mustWrite(t, conn, frames("a message"))
				if half, ok := conn.(*net.TCPConn); ok {
					_ = half.CloseWrite() // It does not know the goodbye.
				}
			}
			stop(t, r)
			quit.Store(true)
			wg.Wait()
			if handled.Load() != conns {
				t.Fatalf("round %d: %d of %d messages that the kernel had taken before Stop were handled", round, handled.Load(), conns)
			}
		}
	})
}

// TestForcedStopCallsNoHandlerAnyMore: the one that runs finishes. What was read behind its message is counted, and
// the Writer is told if the handler does not keep that from happening.
func TestForcedStopCallsNoHandlerAnyMore(t *testing.T) {
	t.Parallel()
	for name, inTime := range map[string]bool{"a handler that heeds its context": true, "one that does not": false} {
		t.Run(name, func(t *testing.T) {
			overModes(t, func(t *testing.T, on *route) {
				const messages = 1000
				entered, leave := make(chan struct{}, messages), make(chan struct{})
				errs := collect()
				r := on.startDeliveryReader(t, func(ctx context.Context, _ *udsipc.Delivery) error {
					entered <- struct{}{}
					if <-ctx.Done(); !inTime {
						<-leave
					}
					return nil
				}, udsipc.WithReaderErrorCallback(errs.callback))
				w := on.startedWriter(t, udsipc.WithMaxBackoff(time.Hour))
				for range messages {
					mustWriteMessage(t, w, "message")
				}
				await(t, "the handler", entered)
				ended, cancel := context.WithCancel(t.Context())
				cancel()
				if err := r.Stop(ended); err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("Stop: %v", err)
				}
				close(leave)
				until(t, "the connection is gone", func() bool { return r.Metrics().Connections == 0 })
				until(t, "the Writer knows", func() bool { return w.Metrics().LostConnections > 0 })
				m := r.Metrics()
				if m.Received != 1 || len(entered) != 0 {
					t.Errorf("%d more handlers were called: %+v", len(entered), m)
				}
				if m.Discarded > 0 {
					errs.want(t, udsipc.ErrStopped)
				}
				checkAccounting(t, w, m.Received+m.Discarded)
				if m := w.Metrics(); inTime && !on.acknowledged && 1+m.PossiblyLost+m.Queued != messages {
					t.Errorf("one message was handled, %d of %d are said to be lost, %d are queued", m.PossiblyLost, messages, m.Queued)
				}
			})
		})
	}
}

// TestStopServesTheBacklogLate: who had connected and written before Stop is served, although the goroutine that accepts
// is busy for longer than a listener is emptied for.
func TestStopServesTheBacklogLate(t *testing.T) {
	t.Parallel()
	overTransports(t, func(t *testing.T, on *route) {
		if on.secure {
			t.Skip("the listener is the same")
		}
		busy, entered := make(chan struct{}), make(chan struct{}, 1)
		var handled atomic.Uint64
		r := on.startReader(t, func([]byte) error { handled.Add(1); return nil }, udsipc.WithMaxConnections(1),
			udsipc.WithReaderErrorCallback(func(err error, _ string) {
				if errors.Is(err, udsipc.ErrTooManyConnections) {
					entered <- struct{}{}
					<-busy
				}
			}))
		first := on.dial(t)
		until(t, "the first one is in", func() bool { return r.Metrics().Connections == 1 })
		on.dial(t)
		await(t, "the callback", entered)
		first.Close()
		late := on.dial(t)
		mustWrite(t, late, frames("in the backlog"))
		_ = late.(interface{ CloseWrite() error }).CloseWrite()
		stopped := make(chan error, 1)
		go func() { stopped <- r.Stop(context.Background()) }()
		until(t, "Stop has begun", func() bool { return errors.Is(r.Start(), udsipc.ErrStopped) })
		time.Sleep(20 * time.Millisecond) // The time that a listener is emptied for passes.
		close(busy)
		if err := await(t, "Stop", stopped); err != nil || handled.Load() != 1 {
			t.Errorf("Stop: %v, %d messages handled, want 1", err, handled.Load())
		}
	})
}

// TestStopAmongThoseWhoConnect: whoever has connected is served, also one who did so while Stop looked for the last one. Each
// client ends its own side, and the end of file of the Reader says that it was served.
func TestStopAmongThoseWhoConnect(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long: a TCP client tries again for a second")
	}
	overAddresses(t, func(t *testing.T, address string) {
		if runtime.GOOS != "linux" && strings.HasPrefix(address, "tcp") {
			t.Skip("a listener cannot be closed without a loss there")
		}
		const clients = 4
		rounds := 5
		if strings.HasPrefix(address, "tcp") {
			rounds = 2
		}
		network, name := networkOf(address)
		for range rounds {
			var handled, served atomic.Int64
			r := startReader(t, func([]byte) error { handled.Add(1); return nil }, address)
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for {
						conn, err := net.Dial(network, name)
						if err != nil {
							return // Refused: the Reader has ended.
						}
						conn.SetDeadline(time.Now().Add(10 * time.Second))
						if _, err := conn.Write(frames("a message")); err == nil {
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
			until(t, "clients are served", func() bool { return handled.Load() > 100 })
			stop(t, r)
			wg.Wait()
			if handled.Load() != served.Load() {
				t.Errorf("%d messages were sent, %d handled", served.Load(), handled.Load())
			}
		}
	})
}
