// SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	ours "github.com/udsipc/udsipc/rpc"
)

var streamSchedules = flag.Int("model.streams", 10,
	"how many random schedules TestStreamModel tries; -model.seed picks one")

// patience is after how long something that should go on stands still.
const patience = 15 * time.Second

// A streamWorld is one schedule: a server, a client with streams and calls, a second one that makes
// a call at a time, and what goes wrong. In every schedule this has to be true:
//
//   - each stream and each call ends, with something that the faults of the schedule explain;
//   - what came over a stream came in order, and all of it if the stream ended in order, whatever the server's stops;
//   - the calls of the second client are answered, whatever other clients leave unread;
//   - goroutines and memory stay within the limits;
//   - when the clients have closed all streams, no handler runs, although the connections go on.
type streamWorld struct {
	address                  string
	server, client           *tls.Config // nil: without TLS.
	serverLimit, clientLimit int         // Of messages.

	// What goes wrong.
	full     bool // The client's queue, now and then.
	graceful bool // The server stops, and another one starts.
	forced   bool // The same, without a wait.
	cuts     bool // Connections break.
	silent   int  // Other clients, which read nothing.

	stops    atomic.Int64 // Graceful ones that have begun.
	received sync.Map     // How many messages the handler of a stream has received.
	mu       sync.Mutex   // Guards happens.
	happens  chan struct{}
}

func (w *streamWorld) String() string {
	return fmt.Sprintf(
		"limits %d and %d, tls %v, full %v, graceful %v, forced %v, cuts %v, silent %d",
		w.serverLimit, w.clientLimit, w.server != nil, w.full, w.graceful, w.forced, w.cuts,
		w.silent)
}

// certain says whether nothing may be lost.
func (w *streamWorld) certain() bool { return !w.forced && !w.cuts }

func (w *streamWorld) smallest() int { return min(w.serverLimit, w.clientLimit) }

func newStreamWorld(t *testing.T, random *rand.Rand) *streamWorld {
	w := &streamWorld{address: ipctest.SocketPath(t), happens: make(chan struct{}), serverLimit: 256 << 10}
	w.clientLimit = w.serverLimit * []int{1, 2, 4}[random.IntN(3)] / 2
	if random.IntN(3) == 0 {
		w.silent = 4 + random.IntN(12)
		w.full = random.IntN(4) == 0
		return w
	}
	if random.IntN(2) == 0 {
		w.address = ipctest.TcpAddress(t)
	}
	if random.IntN(3) == 0 {
		w.server, w.client = ipctest.NewAuthority(t).Configs(t)
	}
	w.full, w.graceful = random.IntN(2) == 0, random.IntN(2) == 0
	w.forced, w.cuts = random.IntN(4) == 0, random.IntN(4) == 0
	return w
}

// TestStreamModel tries random schedules of streams and calls.
func TestStreamModel(t *testing.T) {
	schedules := *streamSchedules
	if testing.Short() {
		schedules = min(schedules, 3)
	}
	for seed := uint64(1); seed <= uint64(schedules); seed++ {
		if *modelSeed != 0 {
			seed = *modelSeed
		}
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) { runStreams(t, seed) }) || *modelSeed != 0 {
			return
		}
	}
}

func runStreams(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 50))
	w := newStreamWorld(t, random)
	t.Logf("%v", w)
	before := resources()
	s := w.start(t)
	streams, calls := w.dial(t, seed, true), w.dial(t, seed, false)
	stopSilent := w.startSilent(t, random, before)
	var actors, asking sync.WaitGroup
	for actor := range uint64(3) {
		choices := rand.New(rand.NewPCG(seed, 51+actor))
		actors.Go(func() {
			for n := range uint64(6) {
				if w.call(t, streams, choices); t.Failed() {
					return
				}
				w.converse(t, streams, choices, w.newPlan(choices, actor*100+n))
			}
		})
	}
	done := make(chan struct{})
	asking.Go(func() { w.ask(t, calls, rand.New(rand.NewPCG(seed, 60)), done) })
	go func() { // Ends with what the actors do, which has a deadline.
		actors.Wait()
		close(done)
	}()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		case <-time.After(time.Duration(random.IntN(8)) * time.Millisecond):
			s = w.disturb(t, random, s, streams)
		}
	}
	asking.Wait()
	stopSilent()
	if t.Failed() {
		return // With what is left behind the next checks would fail as well.
	}
	ipctest.Until(t, "no handler is left behind", func() bool { return s.ActiveCalls() == 0 })
	ipctest.Stop(t, streams)
	ipctest.Stop(t, calls)
	ipctest.Stop(t, s)
}

// start starts a server with limits that are soon reached.
func (w *streamWorld) start(t *testing.T) *ours.Server {
	opts := []udsipc.ReaderOption{
		udsipc.WithMaxMessageSize(uint64(w.serverLimit)), udsipc.WithMaxBufferedBytes(512 << 10),
		udsipc.WithMaxReadMemory(2 << 20),
	}
	if w.server != nil {
		opts = append(opts, udsipc.WithTLS(w.server))
	}
	s := serve(t, w.address, func(s *ours.Server) {
		s.SetMaxConcurrentCalls(callLimit, callLimit)
		if s, ok := any(s).(interface{ SetMaxMemory(int64) }); ok {
			s.SetMaxMemory(memoryLimit)
		}
		s.HandleStream("plan", w.handle)
		s.Handle("wait", func(ctx context.Context, _ []byte) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() })
		s.Handle("busy", func(_ context.Context, b []byte) ([]byte, error) {
			time.Sleep(time.Duration(b[0]) * time.Millisecond) // As a notification: nothing else is read meanwhile.
			return nil, nil
		})
		s.Handle("ignore", func(context.Context, []byte) ([]byte, error) { return nil, nil })
		s.Handle("large", func(context.Context, []byte) ([]byte, error) { return make([]byte, w.serverLimit-100), nil })
		s.HandleStream("unread", func(ctx context.Context, _ *ours.Stream) error { <-ctx.Done(); return nil })
		s.HandleStream("flood", func(_ context.Context, s *ours.Stream) error {
			for {
				if err := s.Send(make([]byte, 100_000)); err != nil {
					return err
				}
			}
		})
	}, opts...)
	return s
}

// dial starts a client, with a queue that is soon full if the schedule says so.
func (w *streamWorld) dial(t *testing.T, seed uint64, streams bool) *ours.Client {
	opts := []udsipc.WriterOption{
		udsipc.WithMaxBackoff(2 * time.Millisecond),
		udsipc.WithMaxMessageSize(uint64(w.clientLimit)),
	}
	if w.client != nil {
		opts = append(opts, udsipc.WithTLS(w.client))
	}
	if streams && w.full {
		opts = append(opts, udsipc.WithMaxBufferedWrites(20))
	}
	if streams && w.cuts {
		cuts := rand.New(rand.NewPCG(seed, 61)) // The dialer is called by one goroutine.
		network, address := "unix", w.address
		if address[0] == 't' {
			network, address = "tcp", address[len("tcp://"):]
		}
		opts = append(opts, udsipc.WithDialer(func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &cutConn{Conn: conn, in: cuts.IntN(4 << 20), out: cuts.IntN(4 << 20)}, nil
		}))
	}
	return dial(t, w.address, opts...)
}

// disturb does one of the things that go wrong, and tells who waits for that.
func (w *streamWorld) disturb(t *testing.T, random *rand.Rand, s *ours.Server, c *ours.Client) *ours.Server {
	w.mu.Lock()
	close(w.happens)
	w.happens = make(chan struct{})
	w.mu.Unlock()
	switch what := random.IntN(4); {
	case what == 0 && w.graceful:
		w.stops.Add(1)
		ipctest.Stop(t, s)
		return w.start(t)
	case what == 1 && w.forced:
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = s.Stop(ctx)
		return w.start(t)
	case what == 2 && w.full:
		if c.Notify("busy", []byte{byte(1 + random.IntN(10))}) != nil {
			break
		}
		for range 40 {
			if c.Notify("ignore", make([]byte, 100<<10)) != nil {
				break
			}
		}
	}
	return s
}

// awaitEvent waits until something happens, or for a while.
func (w *streamWorld) awaitEvent() {
	w.mu.Lock()
	happens := w.happens
	w.mu.Unlock()
	select {
	case <-happens:
	case <-time.After(30 * time.Millisecond):
	}
}

// ask makes calls until done, which are answered whatever other clients do.
func (w *streamWorld) ask(t *testing.T, c *ours.Client, random *rand.Rand, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-time.After(time.Millisecond):
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		request := bytes.Repeat([]byte{byte(random.Uint32())}, []int{0, 100, 20_000, w.smallest() - 100}[random.IntN(4)])
		response, err := c.Call(ctx, "echo", request)
		cancel()
		switch {
		case err == nil && bytes.Equal(request, response), ours.CodeOf(err) == ours.CodeConnectionLost && !w.certain():
		default:
			t.Errorf("a call of %d bytes of a client that does nothing else: %v", len(request), err)
			return
		}
	}
}
