// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// slownesses are longer than what a peer may take to end its side, than what it may say nothing, and than
// the time for a message.
var slownesses = []time.Duration{1100 * time.Millisecond, 11 * time.Second, 31 * time.Second}

// A slowScene is a Writer, and a Reader whose handler takes its time.
type slowScene struct {
	*testing.T
	on      *ipctest.Route
	reader  *udsipc.Reader
	writer  *udsipc.Writer
	errs    *ipctest.Reported
	handled atomic.Uint64
}

// overSlowHandlers runs a test under a fake clock with handlers that are slower than each constant. size is of a
// message: of those of 100 bytes a connection holds forty, of those of 3,000 one and a part of the next.
func overSlowHandlers(t *testing.T, test func(s *slowScene)) {
	for i, takes := range slownesses {
		if testing.Short() && i < len(slownesses)-1 {
			continue
		}
		for _, size := range []int{3000, 100}[:ipctest.InShort(2, 1)] {
			t.Run(fmt.Sprintf("%v, %d bytes", takes, size), func(t *testing.T) {
				ipctest.OverMemory(t, func(t *testing.T, on *ipctest.Route) { startSlowScene(t, on, takes, size, test) })
			})
		}
	}
}

const slowMessages = 50

func startSlowScene(t *testing.T, on *ipctest.Route, takes time.Duration, size int, test func(*slowScene)) {
	s := &slowScene{T: t, on: on, errs: ipctest.Collect()}
	s.reader = on.StartReader(t,
		func([]byte) error { time.Sleep(takes); s.handled.Add(1); return nil },
		udsipc.WithReaderErrorCallback(s.errs.Callback))
	s.writer = on.NewWriter(t, udsipc.WithWriterErrorCallback(s.errs.Callback))
	ipctest.MustStart(t, s.writer)
	for n := range uint64(slowMessages) {
		if err := s.writer.WriteMessage(ipctest.Number(n, size)); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Wait()
	test(s)
	s.errs.None(t, udsipc.ErrConnectionClosed, udsipc.ErrHeartbeatTimeout, udsipc.ErrTooSlow, udsipc.ErrMessageTooLarge)
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

// TestReader_SlowHandlers_KeepConnection: neither the idle timeout nor heartbeats nor a write that waits costs a
// connection whose Reader is busy.
func TestReader_SlowHandlers_KeepConnection(t *testing.T) {
	t.Parallel()
	overSlowHandlers(t, func(s *slowScene) {
		if err := s.writer.Flush(s.patiently()); err != nil {
			s.Error(err)
		}
		if !s.on.Acknowledged { // Else Flush has waited for the handlers.
			time.Sleep(slowMessages * time.Minute)
		}
		if m := s.writer.Metrics(); s.handled.Load() != slowMessages || m.Connections != 1 {
			s.Errorf("%d of %d messages handled over %d connections", s.handled.Load(), slowMessages, m.Connections)
		}
		s.end(s.writer)
		s.end(s.reader)
		ipctest.CheckGracefulStop(s, s.writer, s.handled.Load())
	})
}

// TestReader_StopSlowHandlers_HandlesAll: only the time for which a Reader waits for its peer counts at the end.
func TestReader_StopSlowHandlers_HandlesAll(t *testing.T) {
	t.Parallel()
	overSlowHandlers(t, func(s *slowScene) {
		s.end(s.reader)
		m := s.writer.Metrics()
		ipctest.CheckGracefulStop(s, s.writer, s.handled.Load())
		if m.PossiblyLost > 0 || s.handled.Load() == 0 {
			s.Errorf("%d messages handled: %+v", s.handled.Load(), m)
		}
		next := s.on.StartReader(s, func([]byte) error { s.handled.Add(1); return nil })
		s.end(s.writer)
		s.end(next)
		ipctest.CheckGracefulStop(s, s.writer, s.handled.Load())
		if s.handled.Load() != slowMessages {
			s.Errorf("%d messages handled, want %d", s.handled.Load(), slowMessages)
		}
	})
}

// TestWriter_StopSlowHandlers_DeliversAll: everything that is queued is delivered.
func TestWriter_StopSlowHandlers_DeliversAll(t *testing.T) {
	t.Parallel()
	overSlowHandlers(t, func(s *slowScene) {
		s.end(s.writer)
		s.end(s.reader)
		ipctest.CheckGracefulStop(s, s.writer, s.handled.Load())
		if m := s.writer.Metrics(); s.handled.Load() != slowMessages || m.Queued+m.Undelivered+m.PossiblyLost > 0 {
			s.Errorf("%d messages handled, want %d: %+v", s.handled.Load(), slowMessages, m)
		}
	})
}

// TestReader_OversizedBeforeSlowHandlers_HandlesTheRest: what was sent behind a message over the
// limit is handled, however long that takes.
func TestReader_OversizedBeforeSlowHandlers_HandlesTheRest(t *testing.T) {
	for _, takes := range slownesses {
		ipctest.OverMemory(t, func(t *testing.T, on *ipctest.Route) {
			if on.Acknowledged {
				t.Skip("the message is not sent")
			}
			var handled atomic.Uint64
			r := on.StartReader(t,
				func([]byte) error { time.Sleep(takes); handled.Add(1); return nil },
				udsipc.WithMaxMessageSize(100))
			w := on.NewWriter(t)
			ipctest.MustWriteMessage(t, w, string(make([]byte, 101)))
			for range slowMessages {
				ipctest.MustWriteMessage(t, w, "behind it")
			}
			ipctest.MustStart(t, w)
			time.Sleep(2 * slowMessages * takes)
			if got := handled.Load(); got != slowMessages {
				t.Errorf("%v: %d messages handled, want %d: %+v", takes, got, slowMessages, w.Metrics())
			}
			ipctest.CheckAccounting(t, w, handled.Load())
			ipctest.StopAndTell(t, w)
			ipctest.Stop(t, r)
		})
	}
}

// A kernelEnd is one connection of TestReader_Stop_HandlesKernelBytes.
type kernelEnd struct {
	*testing.T
	on     *ipctest.Route
	reader *udsipc.Reader
	writer *udsipc.Writer

	mu    sync.Mutex
	calls map[uint64]int
}

const kernelMessages = 1300 // Of 1 ms: more than a Reader waits for a peer that says nothing.

func startKernelEnd(t *testing.T, tr ipctest.Transport, acknowledged bool) *kernelEnd {
	e := &kernelEnd{
		T: t, on: &ipctest.Route{Transport: tr, Address: tr.Address(t), Acknowledged: acknowledged},
		calls: map[uint64]int{},
	}
	e.reader = e.on.StartReader(t, e.handler(time.Millisecond), udsipc.WithReadBufferSize(16<<10))
	e.writer = e.on.StartedWriter(t)
	for n := range uint64(kernelMessages) {
		if err := e.writer.WriteMessage(ipctest.Number(n, 100)); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

func (e *kernelEnd) handler(takes time.Duration) udsipc.MessageHandler {
	return func(data []byte) error {
		time.Sleep(takes) // A handler's work, not a wait for anything.
		e.mu.Lock()
		defer e.mu.Unlock()
		e.calls[ipctest.NumberOf(data)]++
		return nil
	}
}

func (e *kernelEnd) handled() (calls uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.calls {
		calls += uint64(n)
	}
	return calls
}

// check fails unless Stop has split the messages exactly, and the next Reader gets the rest, once.
func (e *kernelEnd) check() {
	e.Helper()
	ipctest.Until(e, "the end is known", func() bool { return !e.writer.Metrics().Connected })
	ipctest.CheckGracefulStop(e, e.writer, e.handled())
	next := e.on.StartReader(e, e.handler(0))
	ipctest.Stop(e, e.writer)
	ipctest.Stop(e, next)
	ipctest.CheckGracefulStop(e, e.writer, e.handled())
	m := e.writer.Metrics()
	if len(e.calls) != kernelMessages || m.PossiblyLost > 0 {
		e.Errorf("%s, acknowledged %v: %d messages of %d: %+v", e.on.Name, e.on.Acknowledged, len(e.calls), kernelMessages, m)
	}
}

// TestReader_Stop_HandlesKernelBytes: more than a second's work lies in the sockets at Stop. All transports at
// once, because that is a second of a real clock.
func TestReader_Stop_HandlesKernelBytes(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long")
	}
	var ends []*kernelEnd
	for _, tr := range ipctest.Transports {
		for _, acknowledged := range []bool{false, true} {
			ends = append(ends, startKernelEnd(t, tr, acknowledged))
		}
	}
	var wg sync.WaitGroup
	for _, e := range ends {
		ipctest.Until(t, e.on.Name+": the first is handled", func() bool { return e.handled() > 0 })
		wg.Go(func() { ipctest.Stop(t, e.reader) })
	}
	wg.Wait()
	for _, e := range ends {
		e.check()
	}
}
