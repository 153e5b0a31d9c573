// SPDX-License-Identifier: Apache-2.0

package receiver

// This file gathers the messages of connections into batches. The messages stay in the read buffers
// of their connections. The streams that have some stand in a queue; the first of them leads: it hands
// over a batch (batch_run.go) of its messages and of those behind it, and then the next one leads.

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/udsipc/udsipc/internal/transport"
)

// Batches are the settings of a server that hands messages over in batches.
type Batches struct {
	Max      int           // Messages of a batch.
	Wait     time.Duration // Longest wait for more messages, from the first one on; 0 for none.
	WaitFrom int           // A connection waits if it has that many bytes.
	Shared   bool          // A batch has messages of all connections; otherwise of one.
	New      func() Batch
}

// A Batch holds the messages of one call of the handler. Sinks add them.
type Batch interface {
	Handle(ctx context.Context) error // Calls the handler.
	Clear()                           // Removes the messages.
	Free()                            // Ends the use of the Batch, which is cleared.
}

// A batcher makes the batches of one connection, or of all of them.
type batcher struct {
	server *Server
	cfg    *Batches

	mu        sync.Mutex           // Guards what follows.
	leader    *stream              // The stream whose goroutine hands messages over; nil without one.
	ready     []*stream            // Streams with messages, in their order. The leader stands among them until it begins.
	gathering map[*stream]struct{} // Streams that wait for more messages of the next batch.
	allReady  sync.Cond            // gathering is empty.
	gathered  int                  // Messages of these and of ready.
	deadline  time.Time            // End of these waits.
	due       bool                 // The next batch waits no longer.

	run batchRun // Owned by the goroutine of the leader.
}

// A batchTurn is the place of a stream in a batcher.
type batchTurn struct {
	batcher  *batcher  // nil: the messages are handed over one by one.
	turn     chan bool // One slot: true has the stream lead; false ends its wait.
	gathered int       // Messages that count in the batcher. Guarded by its mu.
	rest     batchPart // Messages of an earlier batch. The handler has failed for the first one alone.
	readErr  error     // Error of a read whose messages are handed over first.
}

func newBatcher(s *Server) *batcher {
	b := &batcher{server: s, cfg: s.cfg.Batches}
	b.allReady.L = &b.mu
	return b
}

// newBatchTurn returns the place of a new connection.
func (s *Server) newBatchTurn() batchTurn {
	switch {
	case s.cfg.Batches == nil:
		return batchTurn{}
	case s.batcher != nil:
		return batchTurn{batcher: s.batcher, turn: make(chan bool, 1)}
	}
	return batchTurn{batcher: newBatcher(s), turn: make(chan bool, 1)}
}

// deliverBatches is deliver for a server with batches.
func (c *stream) deliverBatches() error {
	b := c.batch.batcher
	if c.resumed {
		c.resumed = false
		b.resume(c)
	}
	for {
		if c.batch.rest.left > 0 {
			c.in.SendAck()
			if !c.sleep(redeliveryPause(c.attempts.count)) || c.in.IsHalted() {
				c.in.Halt()
				return nil
			}
			b.submit(c)
			continue
		}
		messages, final := c.in.Gather(b.cfg.Max)
		switch {
		case c.in.IsHalted() && messages > 0:
			b.leave(c)
			return nil
		case messages == 0:
			_, _, err := c.in.Next()
			return err
		case b.cfg.Wait > 0 && !final && c.batch.readErr == nil && b.gather(c, messages):
			continue
		}
		b.submit(c)
	}
}

// gather waits for more messages behind the given number of them. It returns false if the messages
// must be handed over.
func (b *batcher) gather(c *stream, messages int) bool {
	if c.in.GatheredBytes() < b.cfg.WaitFrom {
		return false
	}
	deadline, waits := b.beginGather(c, messages)
	if !waits {
		return false
	}
	err := c.in.Fill()
	switch {
	case err == nil:
		return true
	case transport.IsTimeout(err) && b.isDue(deadline):
	case errors.Is(err, transport.ErrGathered), errors.Is(err, transport.ErrGracefulEnd),
		errors.Is(err, transport.ErrHandOver): // The next read returns it again.
	default:
		c.batch.readErr = err
	}
	return false
}

// beginGather registers a stream that waits for more messages. It returns false if it must not wait.
func (b *batcher) beginGather(c *stream, messages int) (deadline time.Time, waits bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.deadline.IsZero() {
		b.deadline = now.Add(b.cfg.Wait)
	}
	b.gathered += messages - c.batch.gathered
	c.batch.gathered = messages
	deadline = c.in.GatherDeadline(now, b.deadline)
	if b.due || b.gathered >= b.cfg.Max || !now.Before(deadline) {
		return deadline, false
	}
	if b.gathering == nil {
		b.gathering = make(map[*stream]struct{})
	}
	b.gathering[c] = struct{}{}
	return deadline, c.in.SetUserDeadline(deadline) == nil
}

// isDue reports whether the wait for more messages, until deadline, is over.
func (b *batcher) isDue(deadline time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.due || !time.Now().Before(deadline)
}

// leave ends the part of a stream in the next batch. Its messages are not handed over.
func (b *batcher) leave(c *stream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopGatheringLocked(c)
	b.gathered -= c.batch.gathered
	c.batch.gathered = 0
}

func (b *batcher) stopGatheringLocked(c *stream) {
	if _, ok := b.gathering[c]; !ok {
		return
	}
	delete(b.gathering, c)
	_ = c.in.SetUserDeadline(time.Time{}) // If it fails, the next read does too.
	if len(b.gathering) == 0 {
		b.allReady.Signal()
	}
}

// submit hands over the messages of a stream, in a batch that may have others before and behind
// them. It returns when they are handled, or when the connection is halted.
func (b *batcher) submit(c *stream) {
	if c.acks != nil {
		c.acks.BeforeBatch()
		defer c.acks.AfterBatch()
	}
	b.mu.Lock()
	b.stopGatheringLocked(c)
	b.endGatheringLocked()
	b.ready = append(b.ready, c)
	leads := b.leader == nil
	if leads {
		b.leader = c
	}
	b.mu.Unlock()
	if leads || b.awaitTurn(c) {
		b.lead(c)
	}
}

// endGatheringLocked wakes the streams that wait for more messages: they submit what they have, too. When
// the batch is due, they are awake already, and no other one waits.
func (b *batcher) endGatheringLocked() {
	if b.due {
		return
	}
	b.due = true
	for other := range b.gathering {
		_ = other.in.SetUserDeadline(transport.PastDeadline)
	}
}

// lead calls handOver. If the handler or another callback ends the goroutine, another one resumes.
func (b *batcher) lead(c *stream) {
	returned := false
	defer func() {
		if !returned {
			c.goexited, c.resumed = true, true
		}
	}()
	b.handOver(c)
	returned = true
}

// resume continues to lead in another goroutine.
func (b *batcher) resume(c *stream) {
	if c.acks != nil {
		c.acks.BeforeBatch()
		defer c.acks.AfterBatch()
	}
	b.lead(c)
}

// awaitTurn waits until the messages of a stream are handled, or until it leads. It returns whether
// it does. A halted stream leaves the queue.
func (b *batcher) awaitTurn(c *stream) (leads bool) {
	select {
	case leads = <-c.batch.turn:
		return leads
	case <-c.in.Halted():
	}
	b.mu.Lock()
	at := slices.Index(b.ready, c)
	left := at >= 0 && b.leader != c
	if left {
		b.ready = slices.Delete(b.ready, at, at+1)
		b.gathered -= c.batch.gathered
		c.batch.gathered = 0
	}
	b.mu.Unlock()
	return !left && <-c.batch.turn
}

// takeReady takes the messages of a batch from the streams in the queue, after those that wait for
// more messages have come.
func (b *batcher) takeReady() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.gathering) > 0 {
		b.allReady.Wait() // Their waits were ended by submit.
	}
	taken := 0
	for taken < len(b.ready) && b.run.left < b.cfg.Max && !b.run.failed {
		c := b.ready[taken]
		if c.batch.rest.left > 0 && taken > 0 {
			break // It comes alone.
		}
		b.run.add(c, b.cfg.Max)
		b.gathered -= c.batch.gathered
		c.batch.gathered = 0
		taken++
	}
	b.ready = slices.Delete(b.ready, 0, taken)
	if len(b.ready) == 0 {
		b.due, b.deadline = false, time.Time{}
	}
}

// setLeader has another stream lead. It may be nil.
func (b *batcher) setLeader(next *stream) {
	b.mu.Lock()
	b.leader = next
	b.mu.Unlock()
	if next != nil {
		next.batch.turn <- true
	}
}

// passOn has the next stream in the queue lead.
func (b *batcher) passOn() {
	b.mu.Lock()
	b.leader = nil
	if len(b.ready) > 0 {
		b.leader = b.ready[0]
		b.leader.batch.turn <- true // It has room: a stream in the queue has no turn yet.
	}
	b.mu.Unlock()
}
