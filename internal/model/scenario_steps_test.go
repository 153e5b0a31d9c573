// SPDX-License-Identifier: Apache-2.0

package model_test

import (
	"context"
	"encoding/binary"
	"errors"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
)

// step does something that may happen, and lets a random time pass.
func (s *scenario) step() {
	running := s.running()
	w := pick(s.rng, running...)
	switch s.rng.IntN(20) {
	case 0, 1, 2, 3, 4, 5:
		s.write(w, 1+s.rng.IntN(60))
	case 6:
		s.write(w, 1)
		s.flush(w, 1, s.moment())
	case 7:
		s.flush(w, 1+s.rng.IntN(3), s.moment())
	case 8:
		s.rush(w)
	case 9:
		s.flush(w, 50, 0)
	case 10, 11:
		s.restart(s.oneIn(2))
	case 12:
		s.stop(w, s.oneIn(2))
		s.startWriter()
	case 13:
		s.net.Refuse(s.oneIn(2))
	case 14, 15:
		s.refuse(s.oneIn(2))
	case 16, 17, 18:
		if s.faults {
			s.fault()
		}
	}
	if !s.oneIn(3) {
		time.Sleep(s.moment())
	}
	synctest.Wait()
}

func (s *scenario) moment() time.Duration {
	scale := pick(s.rng, time.Microsecond, time.Millisecond, 100*time.Millisecond, time.Second, 10*time.Second)
	return time.Duration(s.rng.IntN(30)) * scale / 10
}

// fault breaks something.
func (s *scenario) fault() {
	links := s.net.Live()
	s.lose()
	switch s.rng.IntN(5) {
	case 0:
		for _, l := range links {
			l.Cut()
		}
	case 1:
		for _, l := range links {
			l.CutAfter(s.rng.IntN(2), s.rng.IntN(20_000), s.oneIn(2))
		}
	case 2, 3:
		s.kill(s.oneIn(2))
	case 4:
		s.abandon()
	}
}

// lose notes that bytes may be thrown away unread from now on. A Writer that has ended cannot hear of it.
func (s *scenario) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsure = true
	for _, w := range s.writers {
		w.excused = w.excused || w.stopping && !s.acked
	}
}

// refuse has the authorizer refuse, or no longer.
func (s *scenario) refuse(on bool) {
	if on {
		s.lose()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusing = on
}

// write has one writer write.
func (s *scenario) write(w *scenarioWriter, n int) {
	sizes := make([]int, n)
	for i := range sizes {
		sizes[i] = s.size()
	}
	patience := s.moment()
	all := func() {
		for _, size := range sizes {
			s.writeOne(w, size, patience)
		}
	}
	if w.overflow != udsipc.OverflowBlock {
		all()
		return
	}
	select {
	case w.jobs <- all:
		s.mu.Lock()
		s.mayTake += time.Duration(n) * (8*s.long + 4*time.Second) // Whenever that is.
		s.mu.Unlock()
	default:
	}
}

// writeOne writes a message of so many bytes, and notes what became of it.
func (s *scenario) writeOne(w *scenarioWriter, size int, patience time.Duration) (err error) {
	s.mu.Lock()
	number := w.accepted + 1
	w.pushing = time.Now()
	w.sizes = append(w.sizes[:number], size)
	w.handled = append(w.handled[:number], 0)
	smallest := s.smallest
	s.mu.Unlock()
	data := make([]byte, size)
	data[0] = w.index
	binary.BigEndian.PutUint64(data[1:], number)
	dropped := w.w.Metrics().Dropped
	switch {
	case w.overflow == udsipc.OverflowBlock && patience > time.Second:
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err = w.w.WriteMessageContext(ctx, data)
		cancel()
	default:
		err = w.w.WriteMessage(data)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w.pushing = time.Time{}
	switch {
	case err == nil:
		w.accepted++
		s.mayTake += s.duration(w.index, number) * 8
		if s.fate(w.index, number, s.failing) {
			s.mayTake += 4 * time.Second // For the pauses of redelivery.
		}
	case errors.Is(err, udsipc.ErrBufferFull):
		if now := w.w.Metrics().Dropped; now != dropped {
			s.errorf("a write that was refused dropped %d messages: %v", now-dropped, err)
		}
	case errors.Is(err, udsipc.ErrMessageTooLarge) && (uint64(size) > smallest || uint64(size+3) > w.maxBytes):
	case errors.Is(err, udsipc.ErrStopped) && w.stopping:
	default:
		s.errorf("WriteMessage of %d bytes: %v", size, err)
	}
	return err
}

// rush has several goroutines flush while one writes.
func (s *scenario) rush(w *scenarioWriter) {
	if w.overflow != udsipc.OverflowDropOldest {
		return
	}
	s.wg.Go(func() {
		for range 100 {
			_ = s.writeOne(w, 20, 0) // It notes the error.
		}
	})
	for range 4 {
		s.wg.Go(func() {
			for range 20 {
				s.flushOnce(w, 10*time.Millisecond)
			}
		})
	}
	synctest.Wait()
}

// restart stops the reader gracefully and starts the next one.
func (s *scenario) restart(odd bool) {
	s.stopReader()
	s.startReader(odd)
}

// abandon stops the reader without patience and starts the next one.
func (s *scenario) abandon() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(s.rng.IntN(2))*s.moment())
	defer cancel()
	life := s.life
	connections := int(s.reader.Metrics().Connections)
	_ = s.reader.Stop(ctx)
	s.mu.Lock()
	life.over = true
	s.mu.Unlock()
	synctest.Wait()
	s.mu.Lock()
	if life.after > connections+len(s.writers) {
		s.errorf("%d handlers began after Stop had returned, for %d connections", life.after, connections)
	}
	s.mu.Unlock()
	s.startReader(s.oneIn(2))
}

// kill ends the reader and all of its connections at once, and what its handlers still do has no effect. Nobody
// can connect, and nothing be acknowledged, once that is so.
func (s *scenario) kill(resets bool) {
	s.net.Unlisten()
	for _, link := range s.net.Live() {
		if resets {
			link.Cut()
		} else {
			link.Die()
		}
	}
	s.mu.Lock()
	s.life.killed = true
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.reader.Stop(ctx) // It did not end well.
	s.startReader(s.oneIn(2))
}
