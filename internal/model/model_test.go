// SPDX-License-Identifier: Apache-2.0

package model_test

// A model of acknowledged delivery: random schedules of writes, cuts, stalls, stops, kills, and
// handlers that fail, over a network in memory and under a fake clock, with what must hold checked after
// each step. mutants_test.go breaks the code and sees to it that the model notices.
//
//	go test -run TestModel -model.schedules 1000000 -model.seed 1 -timeout 0 .

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

var (
	modelSchedules = flag.Int("model.schedules", 500, "how many schedules TestModel tries")
	modelSeed      = flag.Uint64("model.seed", 0, "the first seed; 0 for one of the clock's")
	modelIgnore    = flag.String("model.ignore", "^$", "failures of scenarios that match are passed over")
	modelKeep      = flag.Bool("model.keep", false, "go on after a failure")
)

func TestModel(t *testing.T) { runModel(t, *modelSchedules, runSchedule) }

// runModel runs each of so many seeds in a bubble of its own, until one fails.
func runModel(t *testing.T, schedules int, run func(t *testing.T, seed uint64)) {
	first := *modelSeed
	if first == 0 {
		first = uint64(time.Now().UnixNano()) >> 10
	}
	if testing.Short() {
		schedules = (schedules + 4) / 5
	}
	debug.SetTraceback("all") // For a busy loop.
	t.Logf("%d schedules from seed %d on", schedules, first)
	seeds := make(chan uint64)
	go func() {
		defer close(seeds)
		for n := range uint64(schedules) {
			if t.Failed() && !*modelKeep {
				return
			}
			seeds <- first + n
		}
	}()
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed := range seeds {
				done := make(chan struct{})
				spinning := time.AfterFunc(modelSpin,
					func() { panic(fmt.Sprintf("seed %d has taken %v: a busy loop", seed, modelSpin)) })
				go func() { // A bubble that has failed ends its goroutine.
					defer close(done)
					defer spinning.Stop()
					synctest.Test(t, func(t *testing.T) { run(t, seed) })
				}()
				<-done
			}
		})
	}
	wg.Wait()
}

const (
	modelQueue   = 100 // Messages in a Writer's queue.
	modelSteps   = 30
	modelSpin    = time.Minute     // A schedule takes some milliseconds; the fake clock stands still in a busy loop.
	modelTimeout = 2 * time.Second // How long a peer may be silent.
)

// A schedule is one run of the model: a reader with its successors, and writers.
type schedule struct {
	t    *testing.T
	seed uint64
	rng  *rand.Rand
	net  *ipctest.SimNet
	plan plan

	reader  *udsipc.Reader
	life    *life
	writers []*modelWriter
	mu      sync.Mutex // Guards what handlers change.

	resuming bool // Writers end and go on.
}

// A plan is how a schedule's handlers behave.
type plan struct {
	slow, failing, poisonous, panicking int // One message in so many; 0 for none.

	batches bool // Handlers get batches.
	options []udsipc.ReaderOption
}

// A life is one reader process.
type life struct {
	number int
	killed bool // It has no more effect on anything.
	clean  bool // The one before it ended gracefully.
}

// A modelWriter is a Writer and what became of its messages.
type modelWriter struct {
	w       *udsipc.Writer
	index   byte
	written uint64
	handled uint64 // The highest number that was handled.
	last    uint64 // The last that was handled in life.
	life    int
	tries   map[uint64]int

	resumedWriter // Of TestModelResumed.
}

func runSchedule(t *testing.T, seed uint64) { runSteps(t, seed, false) }

func runSteps(t *testing.T, seed uint64, resuming bool) {
	s := &schedule{resuming: resuming, t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), net: new(ipctest.SimNet)}
	odds := []int{0, 0, 3, 10, 40}
	s.plan = plan{slow: s.pick(odds), failing: s.pick(odds), poisonous: s.pick(odds), panicking: s.pick(odds)}
	s.planBatches()
	s.startReader(true)
	for i := range 1 + s.rng.IntN(2) {
		s.startWriter(byte(i))
	}
	for range modelSteps {
		if resuming && s.rng.IntN(8) == 0 {
			s.resumeWriter()
		}
		s.step()
		s.check()
		if t.Failed() {
			break
		}
	}
	s.heal()
}

func (s *schedule) pick(from []int) int { return from[s.rng.IntN(len(from))] }

func (s *schedule) errorf(format string, arguments ...any) {
	s.t.Errorf("seed %d, after %v: "+format,
		append([]any{s.seed, time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))}, arguments...)...)
}

func (s *schedule) startWriter(index byte) {
	m := &modelWriter{index: index, tries: map[uint64]int{}}
	if s.resuming {
		m.newIdentity()
	}
	s.mu.Lock()
	s.writers = append(s.writers, m)
	s.mu.Unlock()
	m.w = s.newWriter(m.options()...)
}

func (s *schedule) newWriter(opts ...udsipc.WriterOption) *udsipc.Writer {
	w, err := udsipc.NewWriter("memory", append(opts, udsipc.WithDialer(s.net.Dial),
		udsipc.WithAcknowledgements(), udsipc.WithHeartbeatTimeout(modelTimeout),
		udsipc.WithMaxBufferedWrites(modelQueue), udsipc.WithMaxBackoff(100*time.Millisecond),
		udsipc.WithWriteTimeout(50*time.Millisecond))...)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		s.t.Fatal(err)
	}
	return w
}

func (s *schedule) startReader(clean bool) {
	number := 1
	if s.life != nil {
		number = s.life.number + 1
	}
	life := &life{number: number, clean: clean}
	s.life = life
	r, err := s.newReader(life, append(s.plan.options, udsipc.WithListener(s.net.Listen()),
		udsipc.WithHeartbeatTimeout(modelTimeout),
		udsipc.WithInactivityTimeout(time.Duration(s.rng.IntN(2))*time.Second),
		udsipc.WithReadBufferSize(uint32(512<<s.rng.IntN(5))),
		udsipc.WithMaxRedeliveries(2), udsipc.WithDeadLetter(func(d *udsipc.Delivery, err error) { s.done(life, d) }))...)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.reader = r
}

// message is a writer's message: its index, its number, and some more bytes.
func (s *schedule) message(w *modelWriter) []byte {
	size := []int{0, 0, 1, 20, 120, 300, 3000}[s.rng.IntN(7)]
	data := make([]byte, 9+size)
	data[0] = w.index
	binary.BigEndian.PutUint64(data[1:], w.written+1)
	return data
}

var errModel = errors.New("the handler fails")

// handle is the handler of a reader's life.
func (s *schedule) handle(ctx context.Context, life *life, d *udsipc.Delivery) error {
	err := s.try(ctx, d)
	if err == nil {
		s.done(life, d)
	}
	return err
}

// try decides whether the handler fails. What it does to a message depends on the message alone.
func (s *schedule) try(ctx context.Context, d *udsipc.Delivery) error {
	number := binary.BigEndian.Uint64(d.Data[1:])
	fate := rand.New(rand.NewPCG(s.seed, number<<8|uint64(d.Data[0])))
	oneIn := func(n int) bool { return fate.IntN(max(n, 1)) == 0 && n > 0 }
	slow, failing, poisonous, panicking := oneIn(s.plan.slow), oneIn(s.plan.failing),
		oneIn(s.plan.poisonous), oneIn(s.plan.panicking)
	if slow {
		select {
		case <-time.After(time.Duration(fate.IntN(100)) * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.mu.Lock()
	w := s.writers[d.Data[0]]
	w.tries[number]++
	try := w.tries[number]
	s.mu.Unlock()
	switch {
	case poisonous:
		return errModel
	case panicking && try%2 == 1:
		panic(errModel)
	case failing && try%3 != 0:
		return errModel
	}
	return nil
}

// done checks a message that was handled, or became a dead letter: it is the next one of its writer,
// or, first in a new life after a kill, an earlier one that is marked.
func (s *schedule) done(life *life, d *udsipc.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if life.killed {
		return
	}
	number := binary.BigEndian.Uint64(d.Data[1:])
	w := s.writers[d.Data[0]]
	fresh := w.life != life.number
	switch {
	case d.Seq != number:
		s.errorf("message %d of writer %d has the number %d", number, w.index, d.Seq)
	case !fresh && number != w.last+1:
		s.errorf("message %d of writer %d was handled after %d in one life", number, w.index, w.last)
	case fresh && number > w.handled+1:
		s.errorf("message %d of writer %d was handled after %d: lost in between", number, w.index, w.handled)
	case fresh && number <= w.handled && life.clean:
		s.errorf(
			"message %d of writer %d was handled again after %d, though the reader had been stopped",
			number, w.index, w.handled)
	case number <= w.handled && !d.Redelivered:
		s.errorf("message %d of writer %d was handled again and is not marked", number, w.index)
	}
	w.life, w.last = life.number, number
	w.handled = max(w.handled, number)
}

// step does something that may happen, and lets a random time pass.
func (s *schedule) step() {
	switch s.rng.IntN(14) {
	case 0, 1, 2, 3, 4:
		s.write(1 + s.rng.IntN(30))
	case 5:
		s.each(func(l *ipctest.SimLink) { l.Cut() })
	case 6, 7:
		s.each(func(l *ipctest.SimLink) { l.CutAfter(s.rng.IntN(2), s.rng.IntN(2000), s.rng.IntN(2) == 0) })
	case 8:
		s.net.Hold(s.rng.IntN(3) == 0)
		s.each(func(l *ipctest.SimLink) { l.Hold(s.rng.IntN(2), true) })
	case 9:
		s.release()
	case 10:
		s.each(func(l *ipctest.SimLink) {
			l.Chunk(s.rng.IntN(2), s.rng.IntN(20))
			l.Room(0, 1+s.rng.IntN(200))
		})
	case 11:
		s.restart()
	case 12:
		s.kill()
	case 13:
		s.net.Refuse(s.rng.IntN(2) == 0)
	}
	if s.rng.IntN(3) > 0 {
		scale := []time.Duration{time.Microsecond, time.Millisecond, 100 * time.Millisecond, time.Second}
		time.Sleep(time.Duration(s.rng.IntN(30)) * scale[s.rng.IntN(len(scale))] / 10)
	}
	synctest.Wait()
}

func (s *schedule) write(n int) {
	for range n {
		w := s.writers[s.rng.IntN(len(s.writers))]
		if w.gone || !s.catchUp(w) {
			continue
		}
		message := s.message(w)
		switch err := w.w.WriteMessage(message); {
		case err == nil:
			w.written++
			w.keep(message)
		case !errors.Is(err, udsipc.ErrBufferFull):
			s.errorf("WriteMessage: %v", err)
		}
	}
}

// each does something to each connection, or to none.
func (s *schedule) each(do func(*ipctest.SimLink)) {
	for _, link := range s.net.Live() {
		if s.rng.IntN(3) > 0 {
			do(link)
		}
	}
}

// release lets everything arrive that was held up. What comes late on a connection that its writer
// has left must not disturb the one that it has now.
func (s *schedule) release() {
	s.net.Hold(false)
	var late []*ipctest.SimLink
	for _, link := range s.net.Live() {
		link.Mu.Lock()
		left := link.Ends[0].Closed && link.Ways[0].Held
		link.Mu.Unlock()
		if left {
			late = append(late, link)
		} else {
			link.Hold(0, false)
			link.Hold(1, false)
		}
	}
	synctest.Wait()
	before := s.lost()
	for _, link := range late {
		link.Hold(0, false)
	}
	synctest.Wait()
	if after := s.lost(); after != before {
		s.errorf("late bytes of %d connections ended %d others", len(late), after-before)
	}
}

// lost is how many connections the writers have lost.
func (s *schedule) lost() (n uint64) {
	for _, w := range s.writers {
		n += w.w.Metrics().LostConnections
	}
	return n
}

// restart stops the reader gracefully, if it can be, and starts its successor.
func (s *schedule) restart() {
	s.net.Hold(false)
	for _, link := range s.net.Live() {
		link.Hold(0, false)
		link.Hold(1, false)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	if err := s.reader.Stop(ctx); err != nil {
		s.errorf("Stop: %v", err)
	}
	synctest.Wait()
	s.startReader(s.graceful())
}

// graceful says whether all that the last reader handled is acknowledged: a connection that broke at
// the wrong moment may have cost the last word.
func (s *schedule) graceful() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.writers {
		if !w.gone && w.from+w.w.Metrics().Acknowledged < w.handled {
			return false
		}
	}
	return true
}

// kill ends the reader and all of its connections at once, and what its handlers still do has no effect. Nobody
// can connect, and nothing be acknowledged, once that is so.
func (s *schedule) kill() {
	s.net.Unlisten()
	for _, link := range s.net.Live() {
		link.Cut()
	}
	s.mu.Lock()
	s.life.killed = true
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(s.t.Context())
	cancel()
	_ = s.reader.Stop(ctx) // It did not end well.
	s.startReader(false)
}

// check is what must hold at every moment.
func (s *schedule) check() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.writers {
		if w.gone {
			continue
		}
		m := w.w.Metrics()
		switch {
		case w.from+m.Accepted != w.queuedThrough() || m.Accepted != m.Acknowledged+m.Queued ||
			m.Sent != m.Acknowledged || m.Dropped+m.Expired+m.Undelivered+m.PossiblyLost > 0:
			s.errorf("%d messages were written: %+v", w.written, m)
		case w.from+m.Acknowledged > w.handled && m.Acknowledged > 0:
			s.errorf("%d messages are acknowledged, %d were handled", m.Acknowledged, w.handled)
		case m.Queued > modelQueue || m.Unacknowledged > m.Queued || (m.Queued == 0) != (m.QueuedBytes == 0):
			s.errorf("the queue: %+v", m)
		}
	}
	if m := s.reader.Metrics(); m.WriterStates > uint64(len(s.writers)) {
		s.errorf("%d writers are remembered", m.WriterStates)
	}
}

// heal ends all faults: then everything must arrive.
func (s *schedule) heal() {
	s.net.Refuse(false)
	s.net.Hold(false)
	for _, link := range s.net.Live() {
		link.Hold(0, false)
		link.Hold(1, false)
		link.Room(0, ipctest.SimCapacity)
		link.Room(1, ipctest.SimCapacity)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Minute)
	defer cancel()
	for _, w := range s.writers {
		if w.gone {
			continue
		}
		for !s.catchUp(w) && w.w.Flush(ctx) == nil {
		}
		if err := w.w.Flush(ctx); err != nil {
			s.errorf("Flush: %v, %+v", err, w.w.Metrics())
		}
		if err := w.w.Stop(ctx); err != nil {
			s.errorf("Stop: %v", err)
		}
	}
	s.check()
	for _, w := range s.writers {
		if w.handled != w.written && !w.gone && !s.t.Failed() {
			s.errorf("%d messages of writer %d were handled, %d written", w.handled, w.index, w.written)
		}
	}
	if err := s.reader.Stop(ctx); err != nil {
		s.errorf("Stop of the reader: %v", err)
	}
	for _, link := range s.net.Live() {
		link.Cut()
	}
}
