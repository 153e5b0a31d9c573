// SPDX-License-Identifier: Apache-2.0

package model_test

// A second model: scenarios of both kinds of delivery, over a network in memory and over TLS on it, with handlers
// that take up to 30 seconds and readers that are full, refuse, have other limits or little memory, stop and come back.
// scenario_checks_test.go says what must hold. A seed decides on the scenario; the jitter of the backoff and the
// order in which goroutines run at one moment of the fake clock are not decided by it.

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

var modelScenarios = flag.Int("model.scenarios", 40, "how many scenarios TestModelScenarios tries")

func TestModelScenarios(t *testing.T) {
	t.Parallel()
	reader, writer := ipctest.NewAuthority(t).Configs(t)
	trueTime := func() time.Time { return started } // The certificates are not valid at the fake clock's time.
	reader.Time, writer.Time = trueTime, trueTime
	reader.ClientAuth = tls.NoClientCert // A handshake takes longer than all the rest of a scenario.
	reader.CurvePreferences, writer.CurvePreferences = []tls.CurveID{tls.X25519}, []tls.CurveID{tls.X25519}
	writer.ClientSessionCache = tls.NewLRUClientSessionCache(10)
	runModel(t, *modelScenarios, func(t *testing.T, seed uint64) {
		newScenario(t, seed, reader, writer).run()
	})
}

var started = time.Now()

// scenarioSteps is how many things happen before everything has to come to rest.
const scenarioSteps = 25

// A scenario is one run: readers that follow one another, and writers.
type scenario struct {
	t                    *testing.T
	seed                 uint64
	rng                  *rand.Rand
	net                  *ipctest.SimNet
	readerTLS, writerTLS *tls.Config

	// What the seed has decided on.
	acked, secure, faults bool
	slow                  int           // One message in so many takes long; 0 for none.
	long                  time.Duration // So long.
	failing               int           // Of one message in so many the handler fails at first; 0 for none.
	edges                 bool          // Sizes around the edges of buffers.
	small                 []uint64      // The limits that readers have.
	memory                uint64        // Of a reader; 0 for the default.

	reader   *udsipc.Reader
	life     *scenarioLife
	began    time.Time
	smallest uint64         // The smallest limit so far.
	wg       sync.WaitGroup // Of all that writes, flushes and stops.

	mu       sync.Mutex // Guards what follows, and what handlers change.
	writers  []*scenarioWriter
	refusing bool          // The authorizer refuses.
	unsure   bool          // Bytes may have been thrown away unread.
	mayTake  time.Duration // How long handlers may take for all that was written.
	quick    bool          // Handlers take 2 ms, and do not fail.
	calm     bool          // Nothing breaks any more.
}

// A scenarioLife is one reader.
type scenarioLife struct {
	number      int
	limit       uint64
	connections int
	killed      bool // What its handlers do has no effect any more.
	over        bool // Stop has returned.
	after       int  // Handlers that began after that.
}

// A scenarioWriter is a Writer and what became of its messages.
type scenarioWriter struct {
	w         *udsipc.Writer
	index     byte
	overflow  udsipc.OverflowPolicy
	maxAge    time.Duration
	maxBytes  uint64
	jobs      chan func() // For the goroutine that waits where WriteMessage waits.
	pushing   time.Time   // Since when that waits; zero if it does not.
	connected time.Time   // When the connection was last seen.
	stopping  bool
	stopped   bool
	hasty     bool // It was stopped without patience: what was handled and not acknowledged was handed back as well.
	excused   bool // It may not know what became of its messages: it was stopped without acknowledgements.

	accepted  uint64
	sizes     []int // By number, from 1 on.
	handled   []int // How often, by number.
	offered   map[uint64]int
	last      uint64 // The highest that was handled.
	lastLife  int
	lastTimes uint64 // The last that was handled in that life.
	flushes   []*scenarioFlush
	told      struct{ undelivered, lost, dropped, expired uint64 }
	returned  uint64 // Handed to WithUndelivered.
}

func newScenario(t *testing.T, seed uint64, reader, writer *tls.Config) *scenario {
	s := &scenario{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 2)), net: &ipctest.SimNet{Patient: true},
		readerTLS: reader, writerTLS: writer, began: time.Now(),
	}
	s.acked, s.secure, s.faults = s.oneIn(2), s.oneIn(4), s.oneIn(2)
	s.net.Resets = s.oneIn(2)
	s.net.Capacity = pick(s.rng, 4<<10, 64<<10, 208<<10)
	s.slow = pick(s.rng, 0, 1, 5, 20)
	s.long = pick(s.rng, time.Millisecond, 50*time.Millisecond, 300*time.Millisecond, 1500*time.Millisecond)
	if s.slow > 1 && s.oneIn(2) { // Fewer, because whoever polls meanwhile takes real time.
		s.slow, s.long = 20, pick(s.rng, 5*time.Second, 11*time.Second, 30*time.Second)
	}
	s.failing = pick(s.rng, 0, 0, 3, 10)
	s.edges = s.oneIn(2)
	if s.oneIn(3) {
		s.small = []uint64{300, 20_000}
	}
	if s.oneIn(3) {
		s.memory = pick(s.rng, uint64(64<<10), 128<<10, 512<<10)
	}
	s.smallest = 10 << 20
	return s
}

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }

func (s *scenario) oneIn(n int) bool { return s.rng.IntN(n) == 0 }

func (s *scenario) errorf(format string, arguments ...any) {
	what := fmt.Sprintf(format, arguments...)
	if regexp.MustCompile(*modelIgnore).MatchString(what) {
		return
	}
	s.t.Errorf("seed %d, after %v: %s\n\tacked %v, TLS %v, faults %v, resets %v, capacity %d, "+
		"slow %d %v, failing %d, edges %v, limits %v, memory %d", s.seed, time.Since(s.began), what,
		s.acked, s.secure, s.faults, s.net.Resets, s.net.Capacity, s.slow, s.long, s.failing, s.edges, s.small, s.memory)
}

func (s *scenario) run() {
	s.net.Refuse(s.oneIn(6))
	s.startReader(s.oneIn(2))
	for range 1 + s.rng.IntN(3) {
		s.startWriter()
	}
	for range scenarioSteps {
		s.step()
		s.check()
		if s.t.Failed() {
			break
		}
	}
	s.settle()
}

// startReader starts a reader, which may be one that not everybody is content with.
func (s *scenario) startReader(odd bool) {
	life := &scenarioLife{number: 1, limit: 10 << 20, connections: 100}
	if s.life != nil {
		life.number = s.life.number + 1
	}
	if odd && len(s.small) > 0 {
		life.limit = pick(s.rng, s.small...)
		s.mu.Lock()
		s.smallest = min(s.smallest, life.limit)
		s.mu.Unlock()
	}
	if odd && s.oneIn(2) {
		life.connections = 1
	}
	opts := []udsipc.ReaderOption{
		udsipc.WithListener(s.net.Listen()), udsipc.WithMaxMessageSize(life.limit),
		udsipc.WithMaxConnections(life.connections),
		udsipc.WithInactivityTimeout(pick(s.rng, 0, time.Second, 10*time.Second)),
		udsipc.WithHeartbeatTimeout(pick(s.rng, 0, modelTimeout)),
		udsipc.WithReadBufferSize(pick[uint32](s.rng, 512, 4<<10, 16<<10, 64<<10, 256<<10)),
		udsipc.WithMaxRedeliveries(pick(s.rng, 2, 6)),
		udsipc.WithAuthorizer(s.authorize), udsipc.WithDeadLetter(func(d *udsipc.Delivery, err error) { s.done(life, d) }),
	}
	if s.memory > 0 {
		opts = append(opts, udsipc.WithMaxReadMemory(s.memory))
	}
	if s.secure {
		opts = append(opts, udsipc.WithTLS(s.readerTLS))
	}
	handler := func(ctx context.Context, d *udsipc.Delivery) error { return s.handle(ctx, life, d) }
	r, err := udsipc.NewDeliveryReader(handler, "memory", opts...)
	if err == nil {
		err = r.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.reader, s.life = r, life
}

func (s *scenario) authorize(udsipc.Peer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refusing {
		return errors.New("not now")
	}
	return nil
}

// startWriter makes a Writer of any kind, and starts nearly all of them.
func (s *scenario) startWriter() *scenarioWriter {
	overflow := pick(s.rng, udsipc.OverflowRefuse, udsipc.OverflowBlock, udsipc.OverflowDropOldest)
	w := s.newWriter(overflow, pick(s.rng, 0, 0, 500*time.Millisecond, 3*time.Second), pick[uint32](s.rng, 5, 30, 1000))
	if !s.oneIn(20) {
		_ = w.w.Start() // It can only have been stopped.
	}
	return w
}

// newWriter makes a Writer with a queue of so many messages.
func (s *scenario) newWriter(overflow udsipc.OverflowPolicy, maxAge time.Duration, messages uint32) *scenarioWriter {
	w := &scenarioWriter{
		index: byte(len(s.writers)), overflow: overflow, maxAge: maxAge, maxBytes: 64 << 20,
		jobs: make(chan func(), 10), offered: map[uint64]int{}, sizes: []int{0}, handled: []int{0},
	}
	if s.oneIn(3) {
		w.maxBytes = 100 << 10
	}
	opts := []udsipc.WriterOption{
		udsipc.WithDialer(s.net.Dial), udsipc.WithHeartbeatTimeout(pick(s.rng, 0, modelTimeout)),
		udsipc.WithMaxBackoff(pick(s.rng, 100*time.Millisecond, 5*time.Second)),
		udsipc.WithWriteTimeout(50 * time.Millisecond), udsipc.WithOverflow(w.overflow), udsipc.WithMaxAge(w.maxAge),
		udsipc.WithMaxBufferedWrites(messages), udsipc.WithMaxBufferedBytes(w.maxBytes),
		udsipc.WithUndelivered(func(data []byte) { s.undelivered(w, data) }),
		udsipc.WithWriterErrorCallback(func(err error, _ string) { s.reported(w, err) }),
	}
	if s.acked {
		opts = append(opts, udsipc.WithAcknowledgements())
	}
	if s.secure {
		opts = append(opts, udsipc.WithTLS(s.writerTLS))
	}
	made, err := udsipc.NewWriter("memory", opts...)
	if err != nil {
		s.t.Fatal(err)
	}
	w.w = made
	s.mu.Lock()
	s.writers = append(s.writers, w)
	s.mu.Unlock()
	s.wg.Go(func() {
		for job := range w.jobs {
			job()
		}
	})
	return w
}

// running returns the writers that are not being stopped.
func (s *scenario) running() (list []*scenarioWriter) {
	for _, w := range s.writers {
		if !w.stopping {
			list = append(list, w)
		}
	}
	return list
}

// size returns a message's size: mostly a few bytes, sometimes about as much as some buffer holds.
func (s *scenario) size() int {
	if !s.edges || s.oneIn(2) {
		return 9 + pick(s.rng, 0, 1, 20, 120, 300, 3000)
	}
	edge := pick(s.rng, 128, 512, 512, 16<<10, 16<<10, 64<<10)
	switch s.rng.IntN(60) {
	case 0:
		edge = 1 << 20
	case 1, 2:
		edge = 256 << 10
	}
	return edge - 5 + s.rng.IntN(11)
}

// duration is how long the handler takes for a message. It depends on the message alone, as everything that it does.
func (s *scenario) duration(index byte, number uint64) time.Duration {
	if s.fate(index, number, s.slow) {
		return s.long
	}
	return 0
}

func (s *scenario) fate(index byte, number uint64, oneIn int) bool {
	return oneIn > 0 && rand.New(rand.NewPCG(s.seed+uint64(oneIn), number<<8|uint64(index))).IntN(oneIn) == 0
}

// handle is the handler of a reader's life.
func (s *scenario) handle(ctx context.Context, life *scenarioLife, d *udsipc.Delivery) error {
	index, number := d.Data[0], binary.BigEndian.Uint64(d.Data[1:])
	s.mu.Lock()
	w, pause := s.writers[index], s.duration(index, number)
	fails := s.fate(index, number, s.failing)
	if s.quick {
		pause, fails = 2*time.Millisecond, false
	}
	w.offered[number]++
	try := w.offered[number]
	if life.over {
		life.after++
	}
	if try > 1 && s.acked && !d.Redelivered && !life.killed {
		s.errorf("message %d of writer %d is offered for the %d. time and is not marked", number, index, try)
	}
	s.mu.Unlock()
	if pause > 0 {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			if s.acked {
				return ctx.Err()
			}
		}
	}
	if fails && try%5 != 0 {
		if !s.acked {
			s.done(life, d)
		}
		return errModel
	}
	s.done(life, d)
	return nil
}
