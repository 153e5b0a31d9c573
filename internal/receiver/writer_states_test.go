// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// TestHandOver_WriterReconnected_RejectsInherited: a connection that an earlier process has left is
// of no use once its writer has connected again.
func TestHandOver_WriterReconnected_RejectsInherited(t *testing.T) {
	m := newWriterStates(10, time.Hour)
	key := wire.WriterKey{Identity: "uid 0", Writer: wire.WriterID{1}}
	left := wire.WriterSnapshot{Key: key, Epoch: 1, Handled: 5}
	m.restore([]wire.WriterSnapshot{left}, time.Now())
	c, err := m.acquire(key.Identity, wire.Hello{Writer: key.Writer, Epoch: 2, FirstSeq: 6, LastSentSeq: 9}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	c.release(9, 9, 0)
	if _, err := m.acquireInherited(key, left, func() {}); !errors.Is(err, errdefs.ErrInvalidSession) {
		t.Error(err)
	}
}

// acquired is the ownership of a new connection.
func acquired(t *testing.T, m *writerStates, writer byte, epoch, first, sent uint64, fence func()) *ownership {
	t.Helper()
	c, err := m.acquire("uid 0",
		wire.Hello{Writer: wire.WriterID{writer}, Epoch: epoch, FirstSeq: first, LastSentSeq: sent},
		fence)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// goesOn wants a connection to own its state, and to go on behind these numbers.
func (c *ownership) goesOn(t *testing.T, handled, repeats uint64, failures int) {
	t.Helper()
	if h, r, f, err := c.waitForPrevious(t.Context(), 0, nil); h != handled || r != repeats ||
		f != failures || err != nil {
		t.Errorf("goes on behind %d, repeats up to %d, %d failures, %v; want %d, %d, %d", h, r, f,
			err, handled, repeats, failures)
	}
}

func TestWriterStates_NextConnection_GoesOn(t *testing.T) {
	never := func() { t.Error("it is fenced") }
	m := newWriterStates(10, time.Hour)
	c := acquired(t, m, 1, 5, 3, 7, never)
	c.goesOn(t, 2, 7, 0) // The first that is heard of it.
	c.release(9, 9, 0)
	for _, epoch := range []uint64{4, 5} {
		hello := wire.Hello{Writer: wire.WriterID{1}, Epoch: epoch}
		if _, err := m.acquire("uid 0", hello, never); !errors.Is(err, errOldEpoch) {
			t.Errorf("epoch %d: %v", epoch, err)
		}
	}
	c = acquired(t, m, 1, 6, 8, 12, never)
	c.goesOn(t, 9, 7, 0)
	c.release(9, 9, 2) // Message 10 was tried.
	c = acquired(t, m, 1, 7, 10, 12, never)
	c.goesOn(t, 9, 10, 2)
	want := wire.WriterSnapshot{Key: c.state.key, Epoch: 7, Handled: 11, MaybeHandledThrough: 10, Failures: 1}
	if got := c.snapshot(11, 1); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	c.release(9, 9, 2)
	c = acquired(t, m, 1, 8, 11, 12, never)
	c.goesOn(t, 10, 10, 0) // The writer has given up message 10.
	if m.count() != 1 {
		t.Errorf("%d states", m.count())
	}
	acquired(t, m, 2, 1, 1, 0, never).goesOn(t, 0, 0, 0)
	if m.count() != 2 {
		t.Errorf("%d states", m.count())
	}
}

// TestWriterStates_NewerConnection_FencesOlder, and waits until that has released the state.
func TestWriterStates_NewerConnection_FencesOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newWriterStates(10, time.Hour)
		fenced := ""
		old := acquired(t, m, 1, 1, 1, 0, func() { fenced += "old " })
		old.goesOn(t, 0, 0, 0)
		middle := acquired(t, m, 1, 2, 1, 5, func() { fenced += "middle " })
		next := acquired(t, m, 1, 3, 1, 5, func() { fenced += "next " })
		if fenced != "old middle " {
			t.Errorf("fenced are %s", fenced)
		}
		alive := 0
		began := time.Now()
		time.AfterFunc(3500*time.Millisecond, func() { old.release(4, 4, 0) })
		_, _, _, err := middle.waitForPrevious(t.Context(), time.Second, func() { alive++ })
		if !errors.Is(err, errOldEpoch) || alive != 3 || time.Since(began) != 3500*time.Millisecond {
			t.Errorf("%v after %v, alive %d times", err, time.Since(began), alive)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, _, err := next.waitForPrevious(ctx, 0, nil); err != transport.ErrGracefulEnd {
			t.Error(err)
		}
		middle.release(99, 99, 9) // It never owned the state.
		next.goesOn(t, 4, 0, 0)
		if next.previous != nil {
			t.Error("the older one is kept")
		}
		if len(m.export(time.Now())) != 0 {
			t.Error("an owned state is exported")
		}
		next.release(6, 6, 0)
		time.Sleep(time.Minute)
		list := m.export(time.Now())
		want := wire.WriterSnapshot{Key: next.state.key, Epoch: 3, Handled: 6, Idle: time.Minute}
		if len(list) != 1 || list[0] != want {
			t.Errorf("%+v, want %+v", list, want)
		}
		other := newWriterStates(10, time.Hour)
		other.restore(append(list, list...), time.Now())
		if again := other.export(time.Now().Add(time.Second)); len(again) != 1 ||
			again[0].Idle != time.Minute+time.Second || again[0].Handled != 6 {
			t.Errorf("%+v", again)
		}
	})
}

// TestWriterStates_TooManyOrOld_AreEvicted, the one that was idle for longest first; an owned one never.
func TestWriterStates_TooManyOrOld_AreEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newWriterStates(2, time.Hour)
		owned := acquired(t, m, 1, 1, 1, 0, nil)
		for writer := byte(2); writer < 5; writer++ {
			c := acquired(t, m, writer, 1, 1, 0, nil)
			c.goesOn(t, 0, 0, 0)
			c.release(uint64(writer), uint64(writer), 0)
			time.Sleep(time.Minute)
		}
		if list := m.export(time.Now()); len(list) != 1 || list[0].Handled != 4 || m.count() != 2 {
			t.Errorf("%+v of %d", list, m.count())
		}
		time.Sleep(59*time.Minute - 1)
		if m.count() != 2 {
			t.Error("a state is evicted before its time")
		}
		if time.Sleep(time.Nanosecond); m.count() != 1 {
			t.Error("an old state is kept")
		}
		owned.release(0, 0, 0)
		if len(m.export(time.Now())) != 0 {
			t.Error("a writer that was never welcome is exported")
		}
	})
}

// TestWriterStates_Acquire_EvictsBeforeAndAfter: the writer's own state may be too old, and the new one may be
// too many.
func TestWriterStates_Acquire_EvictsBeforeAndAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newWriterStates(1, time.Hour)
		acquired(t, m, 1, 9, 1, 0, nil).release(5, 5, 0)
		time.Sleep(time.Hour)
		old := acquired(t, m, 1, 1, 1, 0, nil) // As if nothing had been known.
		old.goesOn(t, 0, 0, 0)
		old.release(3, 3, 0)
		again := acquired(t, m, 1, 2, 1, 0, nil)
		if len(m.export(time.Now())) != 0 || m.idle.Len() != 0 {
			t.Error("an owned state counts as idle")
		}
		again.release(3, 3, 0)
		acquired(t, m, 2, 1, 1, 0, nil)
		if len(m.states) != 1 {
			t.Errorf("%d states are kept, the limit is 1", len(m.states))
		}
	})
}

func TestWriterStates_Inherited_GoesOn(t *testing.T) {
	key := wire.WriterKey{Identity: "uid 0", Writer: wire.WriterID{1}}
	left := wire.WriterSnapshot{Key: key, Epoch: 3, Handled: 5, MaybeHandledThrough: 8, Failures: 2}
	for _, before := range []bool{false, true} {
		m := newWriterStates(10, time.Hour)
		if before {
			m.restore([]wire.WriterSnapshot{{Key: key, Epoch: 3, Handled: 1}}, time.Now())
		}
		other := wire.WriterKey{Identity: "uid 1", Writer: key.Writer}
		if _, err := m.acquireInherited(other, left, nil); !errors.Is(err, errOldEpoch) {
			t.Error(err)
		}
		c, err := m.acquireInherited(key, left, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.snapshot(5, 2); got != left || len(m.export(time.Now())) != 0 {
			t.Errorf("%+v", got)
		}
		if _, err := m.acquireInherited(key, left, nil); !errors.Is(err, errOldEpoch) {
			t.Errorf("an owned state is inherited: %v", err)
		}
		c.release(7, 7, 0)
		next := acquired(t, m, 1, 4, 1, 0, nil)
		next.goesOn(t, 7, 8, 0)
	}
}
