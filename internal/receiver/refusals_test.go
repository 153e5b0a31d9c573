// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/receiver"
)

// TestWriter_ReadersDie_KeepsLargeMessage: readers that die at once, or refuse for the moment, are
// not readers for which the message is too large.
func TestWriter_ReadersDie_KeepsLargeMessage(t *testing.T) {
	t.Parallel()
	t.Run("they die", func(t *testing.T) {
		ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
			const deaths = 6
			l := ipctest.MustListen(t, on.Address) // One that speaks TLS would die just so.
			w := on.NewWriter(t, udsipc.WithMaxBackoff(5*time.Millisecond))
			ipctest.MustWriteMessage(t, w, strings.Repeat("x", ipctest.Large))
			ipctest.MustStart(t, w)
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = conn.Read(make([]byte, 1)) // The message has begun.
					conn.Close()
				}
			}()
			ipctest.Until(t, "they have died", func() bool {
				m := w.Metrics()
				return m.LostConnections+m.DialErrors >= deaths || m.Sent > 0
			})
			l.Close()
			checkLargeArrives(t, on, w, on.StartReader)
		})
	})
	t.Run("they refuse", func(t *testing.T) {
		ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
			w := on.NewWriter(t, udsipc.WithMaxBackoff(5*time.Millisecond))
			ipctest.MustWriteMessage(t, w, strings.Repeat("x", ipctest.Large))
			var may atomic.Bool
			start := func(tb testing.TB, handler udsipc.MessageHandler, opts ...udsipc.ReaderOption) *udsipc.Reader {
				return on.StartReader(tb, handler, append(opts, udsipc.WithAuthorizer(func(udsipc.Peer) error {
					if !may.Load() {
						return ipctest.ErrNotAllowed
					}
					return nil
				}))...)
			}
			ipctest.MustStart(t, w)
			checkLargeArrives(t, on, w, func(
				tb testing.TB, handler udsipc.MessageHandler, opts ...udsipc.ReaderOption) *udsipc.Reader {
				r := start(tb, handler, opts...)
				ipctest.Until(tb, "it has refused", func() bool {
					return r.Metrics().Unauthorized >= 6 || w.Metrics().PossiblyLost > 0
				})
				may.Store(true)
				return r
			})
		})
	})
}

// checkLargeArrives fails unless the one message of w is handled by the reader that start starts, or is said to
// be possibly lost where the kernels can hold it whole. In no case is it handed back.
func checkLargeArrives(t *testing.T, on *ipctest.Route, w *udsipc.Writer,
	start func(testing.TB, udsipc.MessageHandler, ...udsipc.ReaderOption) *udsipc.Reader) {
	t.Helper()
	var handled atomic.Uint64
	r := start(t, func([]byte) error { handled.Add(1); return nil })
	ipctest.StopAndTell(t, w)
	ipctest.Stop(t, r)
	ipctest.CheckAccounting(t, w, handled.Load())
	if m := w.Metrics(); m.Undelivered > 0 || handled.Load() != 1 && !on.TakesWhole() {
		t.Errorf("handled %d times: %+v", handled.Load(), m)
	}
}

// TestWriter_OversizedBehindOthers_IsReturnedAtOnce: a reader that says that a message is over its
// limit does not have to say it twice, because others were sent before it.
func TestWriter_OversizedBehindOthers_IsReturnedAtOnce(t *testing.T) {
	ipctest.OverTransports(t, func(t *testing.T, on *ipctest.Route) {
		if !on.FlushMeansRead() {
			t.Skip("the message may leave the Writer whole before the goodbye is heard")
		}
		r := on.StartReader(t, ipctest.Ignore, udsipc.WithMaxMessageSize(100))
		w := on.NewWriter(t)
		ipctest.MustWriteMessage(t, w, "others")
		ipctest.MustWriteMessage(t, w, strings.Repeat("x", ipctest.Large))
		ipctest.MustStart(t, w)
		ipctest.Until(t, "it is set aside", func() bool { return w.Metrics().Undelivered == 1 })
		if m := r.Metrics(); m.TooLarge != 1 || m.Received != 1 {
			t.Errorf("it was refused %d times, %d others were handled; want 1 and 1", m.TooLarge, m.Received)
		}
	})
}

// TestReader_ForcedStopInherited_SendsReport: a reader that has not read a connection from its
// beginning tells its writer of what it has read and does not handle.
func TestReader_ForcedStopInherited_SendsReport(t *testing.T) {
	const messages = 100
	ipctest.OverAddresses(t, func(t *testing.T, address string) {
		l := ipctest.MustListen(t, address)
		w := ipctest.NewWriter(t, address, udsipc.WithMaxBackoff(time.Hour))
		ipctest.MustStart(t, w)
		for range messages {
			ipctest.MustWriteMessage(t, w, "x")
		}
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		ipctest.Until(t, "they are sent", func() bool { return w.Metrics().Sent == messages })
		if err := receiver.DiscardInherited(conn); err != nil {
			t.Error(err)
		}
		ipctest.Until(t, "they are said to be lost", func() bool { return w.Metrics().PossiblyLost == messages })
	})
}
