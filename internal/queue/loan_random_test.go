// SPDX-License-Identifier: Apache-2.0

package queue_test

// Producers of messages of all sizes, over connections that are fast, slow, stuck, and end:
// whatever a producer does with its memory once the queue has returned it, each message arrives as
// it was written, once, in the order of its producer.

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/wire"
)

func TestQueue_RandomLoans_KeepEveryMessage(t *testing.T) {
	seeds := uint64(40)
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			q := queue.New(queue.Limits{Messages: 1000, Bytes: 8 << 20})
			h := &loanHistory{t: t, q: q, rng: rand.New(rand.NewPCG(seed, 1)), seed: seed}
			h.run()
		})
		if t.Failed() {
			return
		}
	}
}

const loanProducers = 3

// maxOverrun is how much later than its context a producer returns at most: an interruption may come
// just before the write that uses its memory, and is repeated when two looks have seen no progress.
const maxOverrun = 10 * time.Millisecond

// A loanHistory is one run: producers, and the test as the connection.
type loanHistory struct {
	t    *testing.T
	q    *queue.Queue
	rng  *rand.Rand // The connection's own.
	seed uint64

	accepted  [loanProducers]uint64
	delivered [loanProducers]uint64 // The last number of each producer.
	total     uint64
	interrupt chan struct{}
	ending    atomic.Bool

	mu        sync.Mutex // Held while messages are counted.
	discarded bool       // The queue has ended with messages in it.
}

func (h *loanHistory) run() {
	h.interrupt = make(chan struct{}, 1)
	var producers sync.WaitGroup
	for p := range loanProducers {
		producers.Go(func() { h.produce(p) })
	}
	forced := h.rng.IntN(3) == 0
	after := time.Duration(h.rng.IntN(400)) * time.Millisecond
	sending := make(chan struct{})
	go func() { // Ends when the queue is closed and empty.
		defer close(sending)
		h.send()
	}()
	if forced {
		time.Sleep(after)
		h.mu.Lock()
		_, rest := h.q.TakeUndelivered()
		h.discarded = true
		rest.Visit(h.check)
		h.mu.Unlock()
	}
	producers.Wait()
	h.ending.Store(true)
	h.q.Close()
	h.q.Signal()
	<-sending
	var accepted uint64
	for _, n := range h.accepted {
		accepted += n
	}
	if !forced && h.total != accepted {
		h.t.Errorf("seed %d: %d of %d messages arrived", h.seed, h.total, accepted)
	}
	if counts := h.q.ReadCounts(); counts.Accepted != accepted || counts.Sent+counts.Undelivered != accepted {
		h.t.Errorf("seed %d: %d accepted, counted are %+v", h.seed, accepted, counts)
	}
}

// produce writes messages, and destroys each one as soon as it is allowed to.
func (h *loanHistory) produce(p int) {
	rng := rand.New(rand.NewPCG(h.seed, uint64(p)+10))
	sizes := []int{16, 1000, queue.ChunkSize - 10, queue.ChunkSize + 1, 100_000, 300_000}
	memory := make([]byte, 300_000)
	for range 40 {
		data := memory[:sizes[rng.IntN(len(sizes))]]
		number := h.accepted[p] + 1
		data[0] = byte(number)
		for n := 1; n < len(data); n *= 2 {
			copy(data[n:], data[:n])
		}
		binary.LittleEndian.PutUint64(data, number)
		data[8] = byte(p)
		limit, began := time.Duration(rng.IntN(40))*time.Millisecond, time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		err := h.q.EnqueueWaitAndWake(ctx, data)
		cancel()
		if took := time.Since(began); took > limit+maxOverrun {
			h.t.Errorf("seed %d: %d bytes took %v, the context %v", h.seed, len(data), took, limit)
		}
		clear(data)
		if err == nil {
			h.accepted[p] = number
		}
		if rng.IntN(4) == 0 {
			time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
		}
	}
}

// send is the send loop, over one connection after the other.
func (h *loanHistory) send() {
	var stream []byte // What the present connection has taken and was not parsed.
	h.q.StartLoans(h.interruptWrite)
	for {
		bufs := h.q.NextBatch(make([][]byte, 0, 8), 256<<10)
		if len(bufs) == 0 {
			if h.ending.Load() && h.q.ReadCounts().Queued == 0 {
				return
			}
			<-h.q.Ready()
			continue
		}
		taken := h.write(bufs)
		stream = append(stream, taken...)
		h.mu.Lock()
		_, _ = h.q.MarkWritten(len(taken))
		for !h.discarded { // What the last write took is not counted as sent.
			length, size, _ := wire.ParsePrefix(stream)
			if size == 0 || len(stream) < size+int(length) {
				break
			}
			h.check(stream[size : size+int(length)])
			stream = stream[size+int(length):]
		}
		h.mu.Unlock()
		if h.rng.IntN(30) == 0 { // The connection ends.
			h.q.StopLoans()
			h.q.Rewind()
			stream = nil
			time.Sleep(time.Duration(max(0, h.rng.IntN(60)-30)) * time.Millisecond)
			if h.rng.IntN(2) == 0 {
				h.q.StartLoans(h.interruptWrite)
			}
		}
	}
}

func (h *loanHistory) interruptWrite() {
	select {
	case h.interrupt <- struct{}{}:
	default:
	}
}

// write takes a part of bufs, or all, at once or slowly. It uses the memory until it returns.
func (h *loanHistory) write(bufs [][]byte) []byte {
	all := bytes.Join(bufs, nil)
	n := len(all)
	switch h.rng.IntN(10) {
	case 0:
		n = h.rng.IntN(n + 1)
	case 1:
		n = min(n, h.rng.IntN(20))
	}
	select {
	case <-h.interrupt:
	default:
	}
	if h.rng.IntN(5) == 0 {
		early := h.rng.IntN(n + 1)
		select {
		case <-time.After(time.Duration(h.rng.IntN(60)) * time.Millisecond):
		case <-h.interrupt:
			n = early
		}
	}
	if late := bytes.Join(bufs, nil); !bytes.Equal(late, all) {
		h.t.Errorf("seed %d: memory changes while it is written", h.seed)
	}
	return all[:n]
}

// check wants data to be the next message of its producer, unharmed.
func (h *loanHistory) check(data []byte) {
	number, p := binary.LittleEndian.Uint64(data), data[8]
	if int(p) >= loanProducers || number <= h.delivered[p] {
		h.t.Fatalf("seed %d: message %d of producer %d after %v", h.seed, number, p, h.delivered)
	}
	if bytes.Count(data[9:], []byte{byte(number)}) != len(data)-9 {
		h.t.Fatalf("seed %d: message %d of producer %d is not what was written", h.seed, number, p)
	}
	h.delivered[p] = number
	h.total++
}
