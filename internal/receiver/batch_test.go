// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// batchOptions are those with which connections wait: each for itself, and together.
func batchOptions(wait time.Duration) map[string][]udsipc.ReaderOption {
	return map[string][]udsipc.ReaderOption{
		"own":    {udsipc.WithMaxBatchWait(wait)},
		"shared": {udsipc.WithMaxBatchWait(wait), udsipc.WithSharedBatches()},
	}
}

// TestBatch_HandlerTime_IsNotThePeers: neither the rest of a message behind a batch nor the next message is
// late because the handler was slow.
func TestBatch_HandlerTime_IsNotThePeers(t *testing.T) {
	for name, opts := range batchOptions(100 * time.Millisecond) {
		t.Run(name, func(t *testing.T) {
			ipctest.OverMemory(t, func(t *testing.T, on *ipctest.Route) {
				slow := func(context.Context, []udsipc.Delivery) error {
					time.Sleep(2 * time.Second)
					return nil
				}
				r := on.StartBatchReader(t, slow, append(opts,
					udsipc.WithMessageTimeout(time.Second), udsipc.WithInactivityTimeout(time.Second))...)
				if on.Acknowledged {
					w := on.StartWriter(t)
					ipctest.MustWriteMessage(t, w, "first")
					time.Sleep(500 * time.Millisecond) // The handler has the first.
					ipctest.MustWriteMessage(t, w, "second")
				} else {
					conn := on.Dial(t)
					defer conn.Close()
					b := ipctest.Frames("first", strings.Repeat("x", 1000))
					ipctest.MustWrite(t, conn, b[:100])
					time.Sleep(500 * time.Millisecond)
					ipctest.MustWrite(t, conn, b[100:])
				}
				time.Sleep(4 * time.Second) // Both were handled.
				synctest.Wait()
				if m := r.Metrics(); m.Received != 2 || m.TooSlow+m.IdleClosed > 0 {
					t.Errorf("%+v", m)
				}
			})
		})
	}
}

// TestBatch_LongWait_NeedsNoHeartbeat: a writer whose messages wait for a batch sends none.
func TestBatch_LongWait_NeedsNoHeartbeat(t *testing.T) {
	for name, opts := range batchOptions(time.Minute) {
		t.Run(name, func(t *testing.T) {
			ipctest.OverMemory(t, func(t *testing.T, on *ipctest.Route) {
				r := on.StartBatchReader(t, func(context.Context, []udsipc.Delivery) error { return nil },
					append(opts, udsipc.WithHeartbeatTimeout(2*time.Second), udsipc.WithInactivityTimeout(0))...)
				w := on.StartWriter(t, udsipc.WithHeartbeatTimeout(2*time.Second))
				for range 3 {
					ipctest.MustWriteMessage(t, w, "x")
					time.Sleep(15 * time.Second)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if m := r.Metrics(); m.Received != 3 || m.Batches != 1 || m.Accepted != 1 || m.Errors > 0 {
					t.Errorf("%+v", m)
				}
			})
		})
	}
}

// A deadlineListener counts the deadlines that are set for its connections.
type deadlineListener struct {
	net.Listener
	set *atomic.Int64
}

type deadlineConn struct {
	net.Conn
	set *atomic.Int64
}

func (l deadlineListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return deadlineConn{conn, l.set}, err
}

func (c deadlineConn) SetReadDeadline(t time.Time) error {
	c.set.Add(1)
	return c.Conn.SetReadDeadline(t)
}

// TestBatch_ManyConnections_AreWokenOnce for a batch of all of them.
func TestBatch_ManyConnections_AreWokenOnce(t *testing.T) {
	t.Parallel()
	const connections = 60
	path := ipctest.SocketPath(t)
	handled := make(chan int, connections)
	l := deadlineListener{ipctest.MustListen(t, path), new(atomic.Int64)}
	ipctest.StartBatchReader(t, func(_ context.Context, batch []udsipc.Delivery) error {
		handled <- len(batch)
		return nil
	}, path, append(batchOptions(time.Hour)["shared"], udsipc.WithListener(l), udsipc.WithMaxBatch(connections))...)
	for range connections {
		ipctest.MustWrite(t, ipctest.MustDial(t, path), ipctest.Frames("x"))
	}
	if got := ipctest.Await(t, "the batch", handled); got != connections {
		t.Errorf("a batch of %d", got)
	}
	if set := l.set.Load(); set > 12*connections {
		t.Errorf("%d deadlines for %d connections", set, connections)
	}
}

// TestBatch_CallbackEndsGoroutine_GoesOn: neither the messages nor the dead letter are lost, and nobody
// waits for a leader who is gone.
func TestBatch_CallbackEndsGoroutine_GoesOn(t *testing.T) {
	t.Parallel()
	for name, opts := range batchOptions(0) {
		t.Run(name, func(t *testing.T) {
			ipctest.OverModes(t, func(t *testing.T, on *ipctest.Route) {
				letters, handled := 0, 0
				r := on.StartBatchReader(t, func(_ context.Context, batch []udsipc.Delivery) error {
					for _, d := range batch {
						if string(d.Data) == "poison" {
							return errors.New("poison")
						}
					}
					handled += len(batch)
					return nil
				}, append(opts, udsipc.WithMaxRedeliveries(1),
					udsipc.WithReaderErrorCallback(func(error, string) { runtime.Goexit() }),
					udsipc.WithDeadLetter(func(*udsipc.Delivery, error) {
						letters++
						runtime.Goexit()
					}))...)
				w := on.StartWriter(t)
				for _, text := range []string{"a", "poison", "b"} {
					ipctest.MustWriteMessage(t, w, text)
				}
				if err := w.Flush(t.Context()); err != nil {
					t.Error(err)
				}
				ipctest.Stop(t, w)
				ipctest.Stop(t, r)
				m := r.Metrics()
				if on.Acknowledged && (letters != 1 || handled != 2 || m.Acknowledged != 3) || uint64(handled)+m.HandlerErrors < 3 {
					t.Errorf("%d handled, %d dead letters: %+v", handled, letters, m)
				}
			})
		})
	}
}

// TestBatch_HandlerEndsGoroutine_AcknowledgesByTimer what is handled while a message behind it is offered
// again and again.
func TestBatch_HandlerEndsGoroutine_AcknowledgesByTimer(t *testing.T) {
	ipctest.OverMemory(t, func(t *testing.T, on *ipctest.Route) {
		if !on.Acknowledged {
			return
		}
		r := on.StartBatchReader(t, func(_ context.Context, batch []udsipc.Delivery) error {
			if string(batch[len(batch)-1].Data) == "poison" {
				runtime.Goexit()
			}
			return nil
		}, udsipc.WithMaxBatch(2), udsipc.WithMaxBatchWait(time.Second), udsipc.WithMaxRedeliveries(10))
		w := on.StartWriter(t)
		ipctest.MustWriteMessage(t, w, "a")
		ipctest.MustWriteMessage(t, w, "poison")
		time.Sleep(time.Second)
		synctest.Wait()
		if m := r.Metrics(); m.Acknowledged != 1 || m.DeadLetters > 0 {
			t.Errorf("%+v", m)
		}
	})
}
