// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

// What a bridge holds while the cluster takes nothing.

import (
	"errors"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
)

// liveHeap returns the bytes that are in use.
func liveHeap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestPublisher_NothingIsTaken_MemoryIsBounded: Writers offer ten times the bytes that may be held, at full speed. What
// they were told is accepted is stored afterwards.
func TestPublisher_NothingIsTaken_MemoryIsBounded(t *testing.T) {
	t.Run("server away", func(t *testing.T) {
		w := newWorld(t, 1, streamConfig(), nil)
		w.StopServer(0)
		w.offersMuch(func() error { return w.StartServer(0) })
	})
	t.Run("stream full", func(t *testing.T) {
		cfg := streamConfig()
		cfg.Discard, cfg.MaxBytes = jetstream.DiscardNew, 20_000
		w := newWorld(t, 1, cfg, nil)
		cfg.MaxBytes = -1
		w.offersMuch(func() error {
			_, err := w.js.UpdateStream(w.ctx, cfg)
			return err
		})
	})
}

func (w *world) offersMuch(mend func() error) {
	w.Helper()
	const writers, messages, size, most = 16, 20_000, 1024, 28 << 20
	p := w.publisher(w.js)
	w.reads(p, udsipc.WithMaxReadMemory(2<<20))
	before := liveHeap()
	var all []*udsipc.Writer
	for range writers {
		all = append(all, w.writes(udsipc.WithMaxBufferedBytes(1<<20), udsipc.WithOverflow(udsipc.OverflowRefuse)))
	}
	accepted := make([]int, writers)
	var offering sync.WaitGroup
	for i, wr := range all {
		offering.Go(func() { accepted[i] = w.offers(wr, messages, size, before+most) })
	}
	offering.Wait()
	if m := p.Metrics(); m.Waiting == 0 || m.Waiting > 4000 {
		w.Errorf("%+v: want messages that wait, and at most those of 2 MiB and of a buffer of each Writer", m)
	}
	w.Logf("%d KiB more than before; accepted: %v", (liveHeap()-before)>>10, accepted)
	if err := mend(); err != nil {
		w.Fatal(err)
	}
	for _, wr := range all {
		if err := wr.Flush(w.ctx); err != nil {
			w.Error(err)
		}
	}
	w.wantAccepted(accepted)
}

// offers writes messages, and returns how many were accepted.
func (w *world) offers(wr *udsipc.Writer, messages, size int, most int64) (accepted int) {
	buf := make([]byte, size) // One for all: garbage would count.
	for n := range messages {
		text := append(strconv.AppendInt(buf[:0], int64(accepted), 10), ' ')
		err := wr.WriteMessage(buf[:max(size, len(text))])
		switch {
		case err == nil:
			accepted++
		case !errors.Is(err, udsipc.ErrBufferFull):
			w.Error(err)
			return accepted
		}
		if n%(messages/2) == messages/2-1 {
			if now := liveHeap(); now > most {
				w.Errorf("%d KiB are in use after %d messages: want %d at most", now>>10, n, most>>10)
			}
		}
	}
	return accepted
}

// wantAccepted checks that the stream has as many messages of the writers as they have accepted, in order.
func (w *world) wantAccepted(accepted []int) {
	w.Helper()
	next := make(map[string]int)
	w.each(func(m storedMessage) {
		if n := number(m.data); n != next[m.subject] {
			w.Errorf("message %d of %s: want %d", n, m.subject, next[m.subject])
		}
		next[m.subject]++
	})
	sum := 0
	for _, n := range accepted {
		sum += n
	}
	for _, n := range next {
		sum -= n
	}
	if sum != 0 || len(next) != len(accepted) {
		w.Errorf("%d writers, %d messages are missing: want %d, 0", len(next), sum, len(accepted))
	}
}
