// SPDX-License-Identifier: Apache-2.0

package sender

// Producers that are faster than the connection, some of which may wait, over connections that end at
// random.

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
)

// TestLoop_TurnsAtRandom_AreAccountedFor: each message that is accepted is read as it was written, in
// order, or counted as possibly lost. One that is refused is not read.
func TestLoop_TurnsAtRandom_AreAccountedFor(t *testing.T) {
	const producers, messages = 6, 300
	r := &randomReader{t: t, lives: 200, read: map[[2]uint32]int{}}
	l := loopOf(t, Config{MaxBackoff: time.Millisecond, MessageLimit: 1 << 20},
		queue.Limits{Messages: 200, Bytes: 4 << 20, BytesAlone: rand.N(2) == 0})
	l.cfg.Dial = r.dial
	var turns atomic.Int64
	l.queue.OnTurn(func(done <-chan struct{}) { turns.Add(1); l.takeTurn(done) })
	l.started()
	var mu sync.Mutex
	refused := map[[2]uint32]bool{}
	var writing, flushing sync.WaitGroup
	withoutTurns := rand.N(2) == 0 // A producer that does not wait ends the turns.
	for producer := range uint32(producers) {
		writing.Go(func() {
			var buf []byte
			for number := uint32(1); number <= messages; number++ {
				buf = randomMessage(buf, producer, number, rand.N(1<<(10+rand.N(9))))
				if l.writeAtRandom(t, withoutTurns && producer == 0, buf) != nil {
					mu.Lock()
					refused[[2]uint32{producer, number}] = true
					mu.Unlock()
				}
			}
		})
	}
	stop := make(chan struct{})
	flushing.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(rand.N(5 * time.Millisecond)):
			}
			ctx, cancel := context.WithTimeout(t.Context(), rand.N(5*time.Millisecond))
			_ = l.Flush(ctx)
			cancel()
		}
	})
	writing.Wait()
	close(stop)
	flushing.Wait()
	r.calm.Store(true)
	_ = l.Stop(within(t, time.Minute))
	r.conns.Wait()
	t.Logf("%d turns", turns.Load())
	counts, queued := l.Snapshot(), l.queue.ReadCounts()
	missing := producers*messages - len(r.read) - len(refused)
	if missing < 0 || uint64(missing) > counts.PossiblyLost || queued.Sent != queued.Accepted ||
		queued.Accepted+uint64(len(refused)) != producers*messages {
		t.Errorf("%d are missing, %d refused, %d turns: %+v, %+v", missing, len(refused), turns.Load(), counts, queued)
	}
	for message := range refused {
		if r.read[message] > 0 {
			t.Errorf("message %v was refused and is read", message)
		}
	}
}

// writeAtRandom writes a message: without waiting, for a while, or as long as it takes.
func (l *testLoop) writeAtRandom(t *testing.T, impatient bool, message []byte) (err error) {
	ctx := t.Context()
	switch {
	case impatient:
		err = l.queue.EnqueueAndWake(message)
		time.Sleep(rand.N(200 * time.Microsecond))
	case rand.N(4) == 0:
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, rand.N(5*time.Millisecond))
		defer cancel()
		fallthrough
	default:
		err = l.queue.EnqueueWaitAndWake(ctx, message)
	}
	if err != nil && !errors.Is(err, errdefs.ErrBufferFull) {
		t.Error(err)
	}
	return err
}
