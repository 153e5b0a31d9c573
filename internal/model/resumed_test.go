// SPDX-License-Identifier: Apache-2.0

package model_test

// The model with writers whose messages outlive them. A writer is killed, and goes on in another process: with
// all that it had, with a hole in its numbers, or with an older copy of what it had. Then it must notice, and give
// its identity up.

import (
	"context"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
)

func TestModelResumed(t *testing.T) {
	runModel(t, *modelSchedules, func(t *testing.T, seed uint64) { runSteps(t, seed, true) })
}

// A resumedWriter is what a writer has on its disk, and where its present process has begun.
type resumedWriter struct {
	identity udsipc.Identity
	kept     [][]byte      // Message n is kept[n-1].
	from     uint64        // The process has numbered its first message from+1.
	queued   uint64        // The last message that the process has queued.
	known    atomic.Uint64 // What the processes were told to be handled.
	hole     uint64        // The last number that is missing: nothing before it is sent again.
	gone     bool          // The identity was given up.
}

func (w *modelWriter) newIdentity() {
	w.identity = udsipc.Identity{Writer: udsipc.WriterID{w.index, 1}, First: 1, Attempt: 1 << 32}
}

func (w *modelWriter) options() []udsipc.WriterOption {
	if w.identity.First == 0 {
		return nil
	}
	return []udsipc.WriterOption{
		udsipc.WithIdentity(w.identity), udsipc.WithHandled(func(n uint64) { w.known.Store(max(w.known.Load(), n)) }),
	}
}

func (w *modelWriter) keep(message []byte) {
	if w.identity.First > 0 {
		w.kept = append(w.kept, message)
		w.queued = w.written
	}
}

func (w *modelWriter) queuedThrough() uint64 {
	if w.identity.First > 0 {
		return w.queued
	}
	return w.written
}

// catchUp queues what an earlier process has left. It reports whether nothing is left.
func (s *schedule) catchUp(w *modelWriter) bool {
	if w.identity.First == 0 {
		return true
	}
	for w.queued < w.written {
		n := min(uint64(1+s.rng.IntN(10)), w.written-w.queued)
		err := w.w.WriteMessages(w.kept[w.queued : w.queued+n])
		if errors.Is(err, udsipc.ErrBufferFull) {
			return false
		} else if err != nil {
			s.errorf("WriteMessages: %v", err)
			return false
		}
		w.queued += n
	}
	return true
}

// resumeWriter kills a writer, and starts its successor, which connects at once.
func (s *schedule) resumeWriter() {
	w := s.writers[s.rng.IntN(len(s.writers))]
	if w.gone {
		return
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	cancel()
	_ = w.w.Stop(ctx) // It is killed.
	s.net.Refuse(false)
	s.net.Hold(false)
	synctest.Wait()
	s.mu.Lock()
	known := w.known.Load()
	first := known + 1
	if s.rng.IntN(3) == 0 { // It is not sure what was handled.
		first -= uint64(s.rng.IntN(int(min(known, 50)) + 1))
		s.life.clean = false
	}
	first = max(first, w.hole+1)
	lost := w.last > w.hole && w.life == s.life.number && s.rng.IntN(6) == 0
	hole := !lost && s.rng.IntN(5) == 0
	switch {
	case lost:
		w.written = w.hole + uint64(s.rng.IntN(int(w.last-w.hole)))
		w.kept = w.kept[:w.written]
		first = min(first, w.written+1)
	case hole:
		for range 1 + s.rng.IntN(20) {
			w.written++
			w.kept = append(w.kept, nil)
		}
		first, w.hole = w.written+1, w.written
	}
	s.mu.Unlock()
	w.identity.First, w.identity.Sent = first, max(w.written, first-1)
	w.identity.Attempt = (w.identity.Attempt>>32 + 1) << 32
	w.w = s.newWriter(w.options()...)
	ctx, cancel = context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	if err := w.w.WaitConnected(ctx); err != nil {
		s.errorf("WaitConnected: %v", err)
	}
	s.resumed(w, lost, hole)
}

// resumed checks what the successor was told.
func (s *schedule) resumed(w *modelWriter, lost, hole bool) {
	handled, known := w.w.Handled()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !known || handled < w.identity.First-1:
		s.errorf("writer %d goes on after %d, %v; want %d or more", w.index, handled, known, w.identity.First-1)
	case w.life == s.life.number && handled != max(w.last, w.identity.First-1):
		s.errorf("writer %d is told %d, handled in this life are %d", w.index, handled, w.last)
	case lost && handled <= w.written:
		s.errorf("writer %d does not notice that it is an older copy: %d of %d", w.index, handled, w.written)
	case !lost && handled > w.written:
		s.errorf("writer %d is told %d of %d messages", w.index, handled, w.written)
	}
	if hole { // Nobody waits for what is missing.
		w.handled = handled
	}
	w.last = handled
	w.from, w.queued, w.gone = handled, handled, lost
	if lost {
		s.stopGone(w)
	}
}

// stopGone ends a writer that gives its identity up: one with a new identity takes its place.
func (s *schedule) stopGone(w *modelWriter) {
	old := w.w
	go func() { _ = old.Stop(context.Background()) }() // It has nothing to send.
	next := &modelWriter{index: byte(len(s.writers)), tries: map[uint64]int{}}
	next.newIdentity()
	binary.BigEndian.PutUint64(next.identity.Writer[8:], uint64(next.index))
	s.writers = append(s.writers, next)
	next.w = s.newWriter(next.options()...)
}
