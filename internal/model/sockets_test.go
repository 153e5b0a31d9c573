// SPDX-License-Identifier: Apache-2.0

package model_test

// A third model, over sockets: what only a kernel does cannot be simulated. It takes real time, so
// there are few schedules of it, and handlers take milliseconds; in every third schedule there is a
// backlog of more than a second. A seed decides on the schedule, the kernel on the rest.

import (
	"context"
	"flag"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

var modelSockets = flag.Int("model.sockets", 7, "how many schedules TestModelSockets tries; with -short one")

func TestModelSockets(t *testing.T) {
	t.Parallel()
	first, schedules := *modelSeed, *modelSockets
	if first == 0 {
		first = uint64(time.Now().UnixNano()) >> 10
	}
	if testing.Short() {
		schedules = 1
	}
	var usual []ipctest.Transport
	for _, tr := range ipctest.Transports {
		if !tr.Spelled && !tr.Wrapped { // A listener of unknown kind loses who connects while it is closed, and tells of it.
			usual = append(usual, tr)
		}
	}
	for seed := first; seed < first+uint64(schedules); seed++ {
		tr := usual[seed%uint64(len(usual))]
		t.Run(tr.Name, func(t *testing.T) {
			t.Parallel()
			t.Logf("seed %d", seed)
			s := &socketSchedule{
				T: t, rng: rand.New(rand.NewPCG(seed, 3)),
				on: &ipctest.Route{Transport: tr, Address: tr.Address(t)},
			}
			s.on.Acknowledged = s.rng.IntN(2) == 0
			s.run()
		})
	}
}

// A socketSchedule is one run: readers that follow one another, and writers.
type socketSchedule struct {
	*testing.T
	rng     *rand.Rand
	on      *ipctest.Route
	reader  *udsipc.Reader
	writers []*socketWriter
}

// A socketWriter is a Writer and how far its messages came.
type socketWriter struct {
	*udsipc.Writer
	mu      sync.Mutex
	handled uint64
}

func (s *socketSchedule) run() {
	for range 2 { // Before the reader, whose handlers look at them.
		s.writers = append(s.writers, &socketWriter{Writer: s.on.NewWriter(s, udsipc.WithOverflow(udsipc.OverflowBlock))})
	}
	s.startReader(false)
	for _, w := range s.writers {
		ipctest.MustStart(s, w.Writer)
	}
	for range 8 {
		s.write()
		if s.rng.IntN(2) == 0 {
			s.restart(false)
		}
	}
	if s.rng.IntN(3) == 0 {
		s.restart(true)
		s.backlog()
	}
	s.restart(false)
	for _, w := range s.writers {
		ipctest.Stop(s, w)
		ipctest.Until(s, "all is handled", func() bool { return w.count() == w.Metrics().Accepted })
		ipctest.CheckGracefulStop(s, w.Writer, w.count())
	}
}

func (w *socketWriter) count() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.handled
}

// startReader starts a reader whose handler is slow for one message in twenty, or for all.
func (s *socketSchedule) startReader(slow bool) {
	every := 20
	if slow {
		every = 1
	}
	calls := 0
	var mu sync.Mutex
	s.reader = s.on.StartDeliveryReader(s, func(_ context.Context, d *udsipc.Delivery) error {
		mu.Lock()
		calls++
		slow := calls%every == 0
		mu.Unlock()
		if slow {
			<-time.After(time.Millisecond)
		}
		s.handle(d)
		return nil
	}, udsipc.WithReadBufferSize(pick[uint32](s.rng, 512, 16<<10, 256<<10)))
}

// handle checks that a message is the next one of its writer, which is what its first byte says.
func (s *socketSchedule) handle(d *udsipc.Delivery) {
	n := ipctest.NumberOf(d.Data)
	w := s.writers[n>>32]
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.handled++; w.handled != n&(1<<32-1) {
		s.Errorf("message %d of writer %d came when %d was due", n&(1<<32-1), n>>32, w.handled)
		w.handled = n & (1<<32 - 1)
	}
}

// write has each writer write some messages, of sizes around the edges of buffers.
func (s *socketSchedule) write() {
	for i, w := range s.writers {
		for range s.rng.IntN(40) {
			size := pick(s.rng, 128, 512, 512, 16<<10, 64<<10, 256<<10) - 5 + s.rng.IntN(11)
			s.writeOne(i, w, size)
		}
	}
}

func (s *socketSchedule) writeOne(i int, w *socketWriter, size int) {
	if err := w.WriteMessage(ipctest.Number(uint64(i)<<32|(w.Metrics().Accepted+1), size)); err != nil {
		s.Fatal(err)
	}
}

// backlog writes more small messages than a slow handler handles in a second.
func (s *socketSchedule) backlog() {
	for i, w := range s.writers {
		for range 1500 {
			s.writeOne(i, w, 20)
		}
	}
}

// restart stops the reader gracefully, which splits what was accepted exactly, and starts the next one.
func (s *socketSchedule) restart(slow bool) {
	ipctest.Stop(s, s.reader)
	for _, w := range s.writers {
		w.mu.Lock()
		handled := w.handled
		w.mu.Unlock()
		ipctest.Until(s, "the writer knows that the connection has ended", func() bool { return !w.Metrics().Connected })
		ipctest.CheckGracefulStop(s, w.Writer, handled)
		if lost := w.Metrics().PossiblyLost; lost > 0 {
			s.Errorf("%d messages may be lost after a graceful stop", lost)
		}
	}
	s.startReader(slow)
}
