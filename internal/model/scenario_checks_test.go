// SPDX-License-Identifier: Apache-2.0

package model_test

// This file is what must hold in a scenario of the model: at every moment, after a graceful stop, and at the end.

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// slack is how much longer than its handlers anything may take: for the backoff, pauses and heartbeats.
const slack = 60 * time.Second

// bound is how long it may take until all that was written is handled.
func (s *scenario) bound() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := uint64(0)
	for _, w := range s.writers {
		left += w.accepted
	}
	return s.mayTake + time.Duration(left)*5*time.Millisecond + slack
}

// done notes that a message was handled, or became a dead letter.
func (s *scenario) done(life *scenarioLife, d *udsipc.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if life.killed {
		return
	}
	number := binary.BigEndian.Uint64(d.Data[1:])
	w := s.writers[d.Data[0]]
	fresh := w.lastLife != life.number
	again := number < uint64(len(w.handled)) && w.handled[number] > 0
	switch {
	case number >= uint64(len(w.sizes)) || len(d.Data) != w.sizes[number]:
		s.errorf("message %d of writer %d has %d bytes", number, w.index, len(d.Data))
		return
	case again && (!s.acked || !s.faults):
		s.errorf("message %d of writer %d was handled again after %d", number, w.index, w.last)
	case !fresh && number <= w.lastTimes && (s.acked || !s.unsure):
		s.errorf("message %d of writer %d was handled after %d in one life", number, w.index, w.lastTimes)
	case number <= w.last && !s.unsure:
		s.errorf("message %d of writer %d was handled after %d", number, w.index, w.last)
	}
	w.lastLife, w.lastTimes = life.number, number
	w.last = max(w.last, number)
	w.handled[number]++
}

// undelivered is a writer's WithUndelivered callback.
func (s *scenario) undelivered(w *scenarioWriter, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.returned++
	if !w.stopping && uint64(len(data)) <= s.smallest {
		s.errorf("a message of %d bytes was set aside, the smallest limit is %d", len(data), s.smallest)
	}
}

var (
	toldDropped = regexp.MustCompile(`the oldest (\d+) messages? w(?:as|ere) dropped`)
	toldExpired = regexp.MustCompile(`(\d+) messages? w(?:as|ere) older than`)
	toldGone    = regexp.MustCompile(`: (\d+) messages? w(?:as|ere) not delivered`)
	toldLost    = regexp.MustCompile(`up to (\d+) (?:more|messages?) may be lost`)
)

func toNumber(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// told returns how many messages an error of Flush says were not delivered, and may be lost.
func told(err error) (gone, lost uint64) {
	if m := toldGone.FindStringSubmatch(err.Error()); m != nil {
		gone = toNumber(m[1])
	}
	if m := toldLost.FindStringSubmatch(err.Error()); m != nil {
		lost = toNumber(m[1])
	}
	return gone, lost
}

// reported is a writer's error callback.
func (s *scenario) reported(w *scenarioWriter, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := toldDropped.FindStringSubmatch(err.Error()); m != nil {
		w.told.dropped += toNumber(m[1])
	}
	if m := toldExpired.FindStringSubmatch(err.Error()); m != nil {
		w.told.expired += toNumber(m[1])
	}
	if !s.unsure && (errors.Is(err, udsipc.ErrAcksUnsupported) || errors.Is(err, udsipc.ErrHeartbeatTimeout)) {
		s.errorf("reported: %v", err) // The reader is there, and alive.
	}
}

// A scenarioFlush is a Flush that is under way.
type scenarioFlush struct {
	target uint64    // What was accepted before it.
	due    time.Time // Since when it should have returned; zero if it need not.
	over   bool
}

// flush has so many goroutines flush.
func (s *scenario) flush(w *scenarioWriter, n int, patience time.Duration) {
	for range n {
		s.wg.Go(func() { s.flushOnce(w, patience) })
	}
}

// flushOnce flushes and looks at what is said. A Flush that succeeds was right: all before it was handled, or is
// accounted for.
func (s *scenario) flushOnce(w *scenarioWriter, patience time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s.mu.Lock()
	f := &scenarioFlush{target: w.w.Metrics().Accepted}
	w.flushes = append(w.flushes, f)
	s.mu.Unlock()
	ends := time.Now().Add(patience)
	err := w.w.Flush(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	f.over = true
	if late := time.Since(ends); late > 0 {
		s.errorf("Flush returned %v after the end of its context: %v", late, err)
	}
	if err == nil {
		return
	}
	if gone, lost := told(err); gone+lost > 0 {
		s.tell(w, gone, lost, err)
	} else if !errors.Is(err, context.DeadlineExceeded) {
		s.errorf("Flush: %v", err)
	}
}

// tell notes what a Flush has said. Each message is told once.
func (s *scenario) tell(w *scenarioWriter, undelivered, lost uint64, err error) {
	w.told.undelivered += undelivered
	w.told.lost += lost
	m := w.w.Metrics()
	if w.told.undelivered > m.Undelivered+m.Dropped+m.Expired || w.told.lost > m.PossiblyLost {
		s.errorf("Flush: %v; so far %+v were told of %+v", err, w.told, m)
	}
}

// stop stops a writer, with or without patience.
func (s *scenario) stop(w *scenarioWriter, patient bool) {
	patience := s.moment() * time.Duration(s.rng.IntN(2))
	if patient {
		patience = s.bound() * 10
	}
	s.mu.Lock()
	w.stopping = true
	w.excused = w.excused || !s.acked && s.unsure && !s.calm
	s.mu.Unlock()
	close(w.jobs)
	s.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		ends := time.Now().Add(patience)
		err := w.w.Stop(ctx)
		if late := time.Since(ends); late > 100*time.Millisecond {
			s.errorf("Stop of writer %d returned %v after the end of its context: %v", w.index, late, err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		w.stopped = true
		if ctx.Err() != nil {
			w.excused = w.excused || !s.acked // What it had sent may be thrown away with the connection.
			w.hasty = true
		}
	})
}

// stopReader stops the reader gracefully. If nothing else has gone wrong, what was accepted is handled or queued then.
func (s *scenario) stopReader() {
	ctx, cancel := context.WithTimeout(context.Background(), s.bound())
	defer cancel()
	if err := s.reader.Stop(ctx); err != nil {
		s.errorf("Stop of the reader: %v", err)
	}
	m := s.reader.Metrics()
	if m.HandlerErrors+m.Panics > m.Received {
		s.errorf("handler errors + panics > received: %+v", m)
	}
	synctest.Wait()
	for _, w := range s.writers {
		s.checkSplit(w)
	}
}

// checkSplit checks that a graceful stop has split the messages of w exactly.
func (s *scenario) checkSplit(w *scenarioWriter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unsure || w.excused {
		return
	}
	m := w.w.Metrics()
	handled, refused := s.counted(w)
	sum := handled + m.Queued + m.Undelivered + m.Dropped + m.Expired
	if m.PossiblyLost > refused || m.Accepted < sum && !w.hasty || m.Accepted > sum+refused {
		s.errorf(
			"after a graceful stop: %d messages of writer %d were handled, up to %d refused: %+v",
			handled, w.index, refused, m)
	}
}

// counted returns how many messages of w were handled, and how many were not that a reader may have refused.
func (s *scenario) counted(w *scenarioWriter) (handled, refused uint64) {
	for n := uint64(1); n <= w.accepted; n++ {
		if w.handled[n] > 0 {
			handled++
		} else if uint64(w.sizes[n]) > s.smallest {
			refused++
		}
	}
	return handled, refused
}

// check is what must hold at every moment at which nothing happens until time passes.
func (s *scenario) check() {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, w := range s.writers {
		m := w.w.Metrics()
		ipctest.CheckInvariant(s.t, m)
		handled, _ := s.counted(w)
		switch {
		case m.Accepted != w.accepted && (w.pushing.IsZero() || m.Accepted != w.accepted+1): // It may be about to return.
			s.errorf("%d messages were accepted: %+v", w.accepted, m)
		case s.acked && (m.Acknowledged > handled || m.Sent != m.Acknowledged || m.PossiblyLost > 0):
			s.errorf("%d messages of writer %d were handled: %+v", handled, w.index, m)
		case m.Unacknowledged > m.Queued:
			s.errorf("the queue: %+v", m)
		}
		s.checkWaits(w, m, now)
		if m.Connected {
			w.connected = now
		}
	}
	elapsed := now.Sub(s.began) + time.Second
	if dials := s.net.Dialed(); dials > 1000*len(s.writers)*int(elapsed/time.Second+1) {
		s.errorf("%d dials within %v", dials, elapsed)
	}
	if m := s.reader.Metrics(); m.HandlerErrors+m.Panics > m.Received {
		s.errorf("handler errors + panics > received: %+v", m)
	}
}

// checkWaits checks that nobody waits for what has happened already.
func (s *scenario) checkWaits(w *scenarioWriter, m udsipc.WriterMetrics, now time.Time) {
	w.flushes = slices.DeleteFunc(w.flushes, func(f *scenarioFlush) bool { return f.over })
	for _, f := range w.flushes {
		idle := m.Queued == 0 && (s.acked || !m.Connected) ||
			(m.Connections == 0 || !s.acked && !m.Connected) && m.Accepted-m.Queued >= f.target
		switch {
		case !idle:
			f.due = time.Time{}
		case f.due.IsZero():
			f.due = now
		case now.Sub(f.due) > time.Second:
			s.errorf(
				"Flush of writer %d waits although its messages have left the queue %v ago: %+v",
				w.index, now.Sub(f.due), m)
		}
	}
	since := w.pushing
	if since.Before(w.connected) {
		since = w.connected
	}
	untouched := !s.acked && !m.Connected || m.Connections == 0
	if w.maxAge > 0 && !w.pushing.IsZero() && untouched && now.Sub(since) > w.maxAge+time.Second {
		s.errorf("a write to writer %d waits for %v though messages expire after %v: %+v", w.index,
			now.Sub(since), w.maxAge, m)
	}
}

// settle ends all faults: then everything must come to rest in time.
func (s *scenario) settle() {
	s.net.Refuse(false)
	s.refuse(false)
	for _, link := range s.net.Live() {
		link.CutAfter(0, -1, false)
		link.CutAfter(1, -1, false)
	}
	s.calm = true
	s.restart(false)
	s.checkLimits()
	s.checkTurns()
	s.checkEdges()
	for _, w := range s.running() {
		_ = w.w.Start() // Of one that was not.
		s.await(fmt.Sprintf("Flush of writer %d", w.index), func(ctx context.Context) error { return s.lastFlush(ctx, w) })
	}
	s.check()
	for _, w := range s.running() {
		s.stop(w, true)
	}
	s.wg.Wait()
	s.check()
	s.stopReader()
	for _, w := range s.writers {
		s.checkEnd(w)
	}
	for _, link := range s.net.Live() {
		link.Cut()
	}
	time.Sleep(time.Minute) // Handlers that were left behind return.
}

// await does something that must end in time.
func (s *scenario) await(what string, do func(ctx context.Context) error) {
	bound := s.bound()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	if err := do(ctx); ctx.Err() != nil {
		s.errorf("%s takes longer than %v: %v", what, bound, err)
	}
}

func (s *scenario) lastFlush(ctx context.Context, w *scenarioWriter) error {
	err := w.w.Flush(ctx)
	if err != nil {
		if gone, lost := told(err); gone+lost > 0 {
			s.mu.Lock()
			s.tell(w, gone, lost, err)
			s.mu.Unlock()
		}
		return fmt.Errorf("%w; %+v", err, w.w.Metrics())
	}
	return nil
}

// checkLimits checks that the limit of a reader that is gone is forgotten.
func (s *scenario) checkLimits() {
	for _, w := range s.running() {
		if s.smallest == 10<<20 || w.overflow == udsipc.OverflowBlock {
			continue
		}
		for range 10 {
			if err := s.writeOne(w, int(s.smallest)+1, 0); !errors.Is(err, udsipc.ErrMessageTooLarge) ||
				w.w.Metrics().Queued > 0 {
				break
			}
			time.Sleep(time.Second)
		}
		if err := s.writeOne(w, int(s.smallest)+1, 0); errors.Is(err, udsipc.ErrMessageTooLarge) &&
			w.w.Metrics().Queued == 0 {
			s.errorf("writer %d still refuses messages, ten seconds after a reader without that limit began: %v", w.index, err)
		}
	}
}

// checkTurns checks that a writer gets its turn while others stream without an end, when memory is short.
func (s *scenario) checkTurns() {
	if s.memory == 0 || s.memory > 128<<10 {
		return
	}
	s.setQuick(true)
	quiet := s.startQuick()
	ctx, cancel := context.WithCancel(context.Background())
	for range 3 {
		loud := s.startQuick()
		s.wg.Go(func() {
			for ctx.Err() == nil {
				_ = s.writeOne(loud, 70<<10, 0) // It notes the error.
			}
		})
	}
	time.Sleep(time.Second)
	_ = s.writeOne(quiet, 70<<10, 0)
	patience, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	if err := quiet.w.Flush(patience); err != nil {
		s.errorf("a message of 70 KiB gets no turn within ten seconds: %v, %+v", err, s.reader.Metrics())
	}
	cancel()
	s.setQuick(false)
}

// startQuick starts a writer that waits when its queue is full.
func (s *scenario) startQuick() *scenarioWriter {
	w := s.newWriter(udsipc.OverflowBlock, 0, 5)
	_ = w.w.Start() // It is new.
	return w
}

// checkEdges checks that a lone message is delivered at once, whatever its size.
func (s *scenario) checkEdges() {
	if s.memory > 0 {
		return // The others may have all of it.
	}
	s.setQuick(true)
	defer s.setQuick(false)
	w := s.startQuick()
	edge := pick(s.rng, 128, 512, 512, 4<<10, 16<<10, 64<<10)
	for size := edge - 10; size <= edge+5; size++ {
		_ = s.writeOne(w, size, 0) // It notes the error.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		if err := w.w.Flush(ctx); err != nil && uint64(size) <= w.maxBytes {
			s.errorf("a message of %d bytes is not delivered within a second: %v, %+v", size, err, w.w.Metrics())
		}
		cancel()
	}
}

func (s *scenario) setQuick(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quick = on
}

// checkEnd checks the accounts of a writer that is stopped.
func (s *scenario) checkEnd(w *scenarioWriter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := w.w.Metrics()
	handled, refused := s.counted(w)
	sum := handled + refused + m.PossiblyLost + m.Undelivered + m.Dropped + m.Expired
	switch {
	case sum < m.Accepted && !w.excused:
		s.errorf("lost in silence: %d messages of writer %d were handled, %d refused: %+v", handled, w.index, refused, m)
	case m.Queued > 0 || m.Undelivered != w.returned:
		s.errorf("writer %d is stopped, and %d messages were handed back: %+v", w.index, w.returned, m)
	case w.told.dropped != m.Dropped || w.told.expired != m.Expired:
		s.errorf("writer %d has reported %+v of %+v", w.index, w.told, m)
	}
}
