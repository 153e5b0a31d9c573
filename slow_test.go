// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
)

// slownesses are longer than what a peer may take to end its side, than what it may say nothing, and than
// the time for a message.
var slownesses = []time.Duration{1100 * time.Millisecond, 11 * time.Second, 31 * time.Second}

// A slowScene is a Writer, and a Reader whose handler takes its time.
type slowScene struct {
	*testing.T
	on      *route
	reader  *udsipc.Reader
	writer  *udsipc.Writer
	errs    *reported
	handled atomic.Uint64
}

// overSlowHandlers runs a test under a fake clock with handlers that are slower than each constant. size is of a
// message: of those of 100 bytes a connection holds forty, of those of 3,000 one and a part of the next.
func overSlowHandlers(t *testing.T, test func(s *slowScene)) {
	for _, takes := range slownesses {
		for _, size := range []int{100, 3000} {
			t.Run(fmt.Sprintf("%v, %d bytes", takes, size), func(t *testing.T) {
				overMemory(t, func(t *testing.T, on *route) { startSlowScene(t, on, takes, size, test) })
			})
		}
	}
}

const slowMessages = 50

func startSlowScene(t *testing.T, on *route, takes time.Duration, size int, test func(*slowScene)) {
	s := &slowScene{T: t, on: on, errs: collect()}
	s.reader = on.startReader(t, func([]byte) error { time.Sleep(takes); s.handled.Add(1); return nil }, udsipc.WithReaderErrorCallback(s.errs.callback))
	s.writer = on.newWriter(t, udsipc.WithWriterErrorCallback(s.errs.callback))
	mustStart(t, s.writer)
	for n := range uint64(slowMessages) {
		if err := s.writer.WriteMessage(number(n, size)); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Wait()
	test(s)
	s.errs.none(t, udsipc.ErrConnectionClosed, udsipc.ErrPeerSilent, udsipc.ErrTooSlow, udsipc.ErrMessageTooLarge)
}

// patiently is a context for what takes as long as all handlers together.
func (s *slowScene) patiently() context.Context {
	ctx, cancel := context.WithTimeout(s.Context(), 2*time.Hour)
	s.Cleanup(cancel)
	return ctx
}

func (s *slowScene) end(what interface{ Stop(context.Context) error }) {
	s.Helper()
	if err := what.Stop(s.patiently()); err != nil {
		s.Errorf("Stop: %v", err)
	}
	synctest.Wait()
}

// TestSlowHandlersKeepTheirConnection: neither the idle timeout nor heartbeats nor a write that waits costs a
// connection whose Reader is busy.
func TestSlowHandlersKeepTheirConnection(t *testing.T) {
	overSlowHandlers(t, func(s *slowScene) {
		if err := s.writer.Flush(s.patiently()); err != nil {
			s.Error(err)
		}
		if !s.on.acknowledged { // Else Flush has waited for the handlers.
			time.Sleep(slowMessages * time.Minute)
		}
		if m := s.writer.Metrics(); s.handled.Load() != slowMessages || m.Connections != 1 {
			s.Errorf("%d of %d messages handled over %d connections", s.handled.Load(), slowMessages, m.Connections)
		}
		s.end(s.writer)
		s.end(s.reader)
		checkGracefulStop(s, s.writer, s.handled.Load())
	})
}

// TestReaderStopWithSlowHandlers: only the time for which a Reader waits for its peer counts at the end.
func TestReaderStopWithSlowHandlers(t *testing.T) {
	overSlowHandlers(t, func(s *slowScene) {
		s.end(s.reader)
		m := s.writer.Metrics()
		checkGracefulStop(s, s.writer, s.handled.Load())
		if m.PossiblyLost > 0 || s.handled.Load() == 0 {
			s.Errorf("%d messages handled: %+v", s.handled.Load(), m)
		}
		next := s.on.startReader(s, func([]byte) error { s.handled.Add(1); return nil })
		s.end(s.writer)
		s.end(next)
		checkGracefulStop(s, s.writer, s.handled.Load())
		if s.handled.Load() != slowMessages {
			s.Errorf("%d messages handled, want %d", s.handled.Load(), slowMessages)
		}
	})
}

// TestWriterStopWithSlowHandlers: everything that is queued is delivered.
func TestWriterStopWithSlowHandlers(t *testing.T) {
	overSlowHandlers(t, func(s *slowScene) {
		s.end(s.writer)
		s.end(s.reader)
		checkGracefulStop(s, s.writer, s.handled.Load())
		if m := s.writer.Metrics(); s.handled.Load() != slowMessages || m.Queued+m.Undelivered+m.PossiblyLost > 0 {
			s.Errorf("%d messages handled, want %d: %+v", s.handled.Load(), slowMessages, m)
		}
	})
}

// TestTooLargeBeforeSlowHandlers: what was sent behind a message over the limit is handled, however long
// that takes.
func TestTooLargeBeforeSlowHandlers(t *testing.T) {
	for _, takes := range slownesses {
		overMemory(t, func(t *testing.T, on *route) {
			if on.acknowledged {
				t.Skip("the message is not sent")
			}
			var handled atomic.Uint64
			r := on.startReader(t, func([]byte) error { time.Sleep(takes); handled.Add(1); return nil }, udsipc.WithMaxMessageSize(100))
			w := on.newWriter(t)
			mustWriteMessage(t, w, string(make([]byte, 101)))
			for range slowMessages {
				mustWriteMessage(t, w, "behind it")
			}
			mustStart(t, w)
			time.Sleep(2 * slowMessages * takes)
			if got := handled.Load(); got != slowMessages {
				t.Errorf("%v: %d messages handled, want %d: %+v", takes, got, slowMessages, w.Metrics())
			}
			checkAccounting(t, w, handled.Load())
			stop(t, w)
			stop(t, r)
		})
	}
}

// TestStopHandlesWhatTheKernelHas: more than a second's work lies in the sockets at Stop. All transports at
// once, because that is a second of a real clock.
func TestStopHandlesWhatTheKernelHas(t *testing.T) {
	const messages, takes = 1300, time.Millisecond
	type end struct {
		on      *route
		reader  *udsipc.Reader
		writer  *udsipc.Writer
		handled atomic.Uint64
	}
	var ends []*end
	for _, tr := range transports {
		for _, acknowledged := range []bool{false, true} {
			e := &end{on: &route{transport: tr, address: tr.address(t), acknowledged: acknowledged}}
			e.reader = e.on.startReader(t, func([]byte) error {
				time.Sleep(takes) // A handler's work, not a wait for anything.
				e.handled.Add(1)
				return nil
			}, udsipc.WithReadBufferSize(16<<10))
			e.writer = e.on.startedWriter(t)
			for n := range uint64(messages) {
				if err := e.writer.WriteMessage(number(n, 100)); err != nil {
					t.Fatal(err)
				}
			}
			ends = append(ends, e)
		}
	}
	var wg sync.WaitGroup
	for _, e := range ends {
		wg.Go(func() {
			until(t, e.on.name+": the first is handled", func() bool { return e.handled.Load() > 0 })
			stop(t, e.reader)
		})
	}
	wg.Wait()
	for _, e := range ends {
		until(t, "the end is known", func() bool { return !e.writer.Metrics().Connected })
		checkGracefulStop(t, e.writer, e.handled.Load())
		if m := e.writer.Metrics(); m.PossiblyLost > 0 {
			t.Errorf("%s, acknowledged %v: %+v", e.on.name, e.on.acknowledged, m)
		}
	}
}
