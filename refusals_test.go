// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

// large is more than a Unix socket holds, so that its write is cut short when the connection ends.
const large = 1 << 20

// TestLargeMessageOutlivesItsReaders: readers that die at once, or refuse for the moment, are not readers for which
// the message is too large.
func TestLargeMessageOutlivesItsReaders(t *testing.T) {
	t.Parallel()
	t.Run("they die", func(t *testing.T) {
		overTransports(t, func(t *testing.T, on *route) {
			const deaths = 6
			l := mustListen(t, on.address) // One that speaks TLS would die just so.
			w := on.newWriter(t, udsipc.WithMaxBackoff(5*time.Millisecond))
			mustWriteMessage(t, w, strings.Repeat("x", large))
			mustStart(t, w)
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
			until(t, "they have died", func() bool { m := w.Metrics(); return m.LostConnections+m.DialErrors >= deaths || m.Sent > 0 })
			l.Close()
			checkLargeArrives(t, on, w, on.startReader)
		})
	})
	t.Run("they refuse", func(t *testing.T) {
		overTransports(t, func(t *testing.T, on *route) {
			w := on.newWriter(t, udsipc.WithMaxBackoff(5*time.Millisecond))
			mustWriteMessage(t, w, strings.Repeat("x", large))
			var may atomic.Bool
			start := func(tb testing.TB, handler udsipc.MessageHandler, opts ...udsipc.ReaderOption) *udsipc.Reader {
				return on.startReader(tb, handler, append(opts, udsipc.WithAuthorizer(func(udsipc.Peer) error {
					if !may.Load() {
						return errNotAllowed
					}
					return nil
				}))...)
			}
			mustStart(t, w)
			checkLargeArrives(t, on, w, func(tb testing.TB, handler udsipc.MessageHandler, opts ...udsipc.ReaderOption) *udsipc.Reader {
				r := start(tb, handler, opts...)
				until(tb, "it has refused", func() bool { return r.Metrics().Unauthorized >= 6 || w.Metrics().PossiblyLost > 0 })
				may.Store(true)
				return r
			})
		})
	})
}

// checkLargeArrives fails unless the one message of w is handled by the reader that start starts, or is said to
// be possibly lost where the kernels can hold it whole. In no case is it handed back.
func checkLargeArrives(t *testing.T, on *route, w *udsipc.Writer, start func(testing.TB, udsipc.MessageHandler, ...udsipc.ReaderOption) *udsipc.Reader) {
	t.Helper()
	var handled atomic.Uint64
	r := start(t, func([]byte) error { handled.Add(1); return nil })
	stopAndTell(t, w)
	stop(t, r)
	checkAccounting(t, w, handled.Load())
	if m := w.Metrics(); m.Undelivered > 0 || handled.Load() != 1 && !on.takesWhole() {
		t.Errorf("handled %d times: %+v", handled.Load(), m)
	}
}

// TestTooLargeBehindOthersIsSetAsideAtOnce: a reader that says that a message is over its limit does not have to say it
// twice, because others were sent before it.
func TestTooLargeBehindOthersIsSetAsideAtOnce(t *testing.T) {
	overTransports(t, func(t *testing.T, on *route) {
		if !on.flushMeansRead() {
			t.Skip("the message may leave the Writer whole before the goodbye is heard")
		}
		r := on.startReader(t, ignore, udsipc.WithMaxMessageSize(100))
		w := on.newWriter(t)
		mustWriteMessage(t, w, "others")
		mustWriteMessage(t, w, strings.Repeat("x", large))
		mustStart(t, w)
		until(t, "it is set aside", func() bool { return w.Metrics().Undelivered == 1 })
		if m := r.Metrics(); m.TooLarge != 1 || m.Received != 1 {
			t.Errorf("it was refused %d times, %d others were handled; want 1 and 1", m.TooLarge, m.Received)
		}
	})
}

// TestForcedStopOfAnInheritedConnection: a reader that has not read a connection from its beginning tells its writer of
// what it has read and does not handle.
func TestForcedStopOfAnInheritedConnection(t *testing.T) {
	const messages = 100
	overAddresses(t, func(t *testing.T, address string) {
		l := mustListen(t, address)
		w := newWriter(t, address, udsipc.WithMaxBackoff(time.Hour))
		mustStart(t, w)
		for range messages {
			mustWriteMessage(t, w, "x")
		}
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		until(t, "they are sent", func() bool { return w.Metrics().Sent == messages })
		if err := udsipc.DiscardResumed(conn); err != nil {
			t.Error(err)
		}
		until(t, "they are said to be lost", func() bool { return w.Metrics().PossiblyLost == messages })
	})
}
