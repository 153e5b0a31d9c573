// SPDX-License-Identifier: Apache-2.0

package receiver

// This file hands over one batch. After an error it offers the messages of sessions again, then half
// of them, until the message that fails is alone. That one is redelivered as any other, and becomes a
// dead letter in the end.

import (
	"fmt"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// A batchRun is a batch that is being handed over.
type batchRun struct {
	b      Batch       // nil: no batch is being handed over.
	parts  []batchPart // What is not handled yet, in order.
	left   int         // Messages of parts.
	span   int         // The next call has the first span messages.
	bad    int         // The handler has failed for so many of the first messages together, twice; 0 for none.
	failed bool        // The handler has failed for all of them.
	err    error       // Of the handler that has ended its goroutine.
}

// A batchPart has the messages of one stream.
type batchPart struct {
	stream *stream
	frames []byte // They begin with the next message.
	seq    uint64 // Of the next message.
	left   int    // Messages.
}

// add adds the gathered messages of a stream, so that the batch has limit messages at most. A message
// that is to be redelivered is handed over alone.
func (r *batchRun) add(c *stream, limit int) {
	if rest := c.batch.rest; rest.left > 0 && !c.in.IsHalted() {
		c.batch.rest = batchPart{}
		r.parts = append(r.parts, rest)
		r.left, r.span, r.bad, r.failed = rest.left, 1, 1, true
		return
	}
	messages, frames := c.in.TakeBatch(limit - r.left)
	r.parts = append(r.parts, batchPart{stream: c, frames: frames, seq: c.seq + 1, left: messages})
	c.seq += uint64(messages)
	r.left += messages
	r.span = r.left
}

// handOver hands over a batch, or what is left of it, while c leads.
func (b *batcher) handOver(c *stream) {
	r := &b.run
	if r.b == nil {
		r.b = b.cfg.New()
		b.takeReady()
		if r.left > 0 {
			b.call(c)
		}
	} else if err := r.err; err != nil {
		r.err = nil
		b.onFailure(c, err, true)
	}
	for {
		b.releaseDone(c)
		switch {
		case len(r.parts) == 0:
			r.b.Free()
			*r = batchRun{parts: r.parts[:0]}
			b.passOn()
			return
		case r.parts[0].stream != c: // Those of c are handled: it can go on, or end.
			b.setLeader(r.parts[0].stream)
			return
		}
		b.call(c)
	}
}

// releaseDone removes the parts that are handled, or whose connection was halted, and ends the wait of
// their streams.
func (b *batcher) releaseDone(leader *stream) {
	r := &b.run
	kept := r.parts[:0]
	for _, p := range r.parts {
		if p.left > 0 && !p.stream.in.IsHalted() {
			kept = append(kept, p)
			continue
		}
		if r.left -= p.left; p.left > 0 {
			r.bad, r.span = 0, r.left // What is left may be good.
		}
		if p.stream != leader {
			p.stream.batch.turn <- false
		}
	}
	clear(r.parts[len(kept):])
	r.parts = kept
	r.span = min(r.span, r.left)
}

// call calls the handler with the first messages of the batch. leader is the stream of this goroutine.
func (b *batcher) call(leader *stream) {
	r := &b.run
	r.b.Clear()
	if r.failed {
		leader.redeliveries.Add(1)
	}
	again, rest := uint64(0), r.span
	for i := range r.parts {
		n := min(rest, r.parts[i].left)
		again += r.addTo(&r.parts[i], n)
		rest -= n
	}
	b.server.counts.batches.Add(1)
	if again > 0 {
		b.server.counts.redelivered.Add(again)
	}
	if err, panicked := b.callHandler(leader); err != nil {
		b.onFailure(leader, err, panicked)
		return
	}
	r.markHandled(r.span)
	r.offerNext(max(0, r.bad-r.span))
}

// offerNext decides what the next call has, if a message fails among the first bad ones: half of them,
// to find it. Otherwise it has all that is left.
func (r *batchRun) offerNext(bad int) {
	r.bad = bad
	if r.span = (bad + 1) / 2; bad == 0 {
		r.span = r.left
	}
}

// addTo adds the first messages of a part to the Batch. It returns how many of them may have been
// handled before.
func (r *batchRun) addTo(p *batchPart, messages int) (again uint64) {
	c, frames := p.stream, p.frames
	through := uint64(0)
	if c.acks != nil {
		through = c.acks.RedeliveredThrough()
	}
	for seq := p.seq; seq < p.seq+uint64(messages); seq++ {
		var data []byte
		data, frames = c.in.FirstMessage(frames)
		redelivered := r.failed || seq <= through
		if redelivered {
			again++
		}
		c.sink.Add(r.b, data, seq, redelivered)
	}
	return again
}

// callHandler calls the handler. If that ends the goroutine, err of the batchRun has the error.
func (b *batcher) callHandler(leader *stream) (err error, panicked bool) {
	leader.inHandler.Store(true)
	returned := false
	defer func() {
		leader.inHandler.Store(false)
		if returned {
			return
		}
		value := recover()
		if err, panicked = panicError(value), true; value == nil {
			b.run.err = err
		}
	}()
	err = b.run.b.Handle(b.server.forceCtx)
	returned = true
	return err, false
}

// markHandled records that the first messages of the batch are handled.
func (r *batchRun) markHandled(messages int) {
	r.left -= messages
	for i := range r.parts {
		p := &r.parts[i]
		n := min(messages, p.left)
		if n < p.left {
			for range n {
				_, p.frames = p.stream.in.FirstMessage(p.frames)
			}
		}
		p.left -= n
		p.seq += uint64(n)
		if p.stream.acks != nil {
			p.stream.acks.MarkBatchHandled(n)
		}
		if messages -= n; messages == 0 {
			return
		}
	}
}

// first returns the part with the first message.
func (r *batchRun) first() *batchPart {
	i := 0
	for r.parts[i].left == 0 {
		i++
	}
	return &r.parts[i]
}

// onFailure reports an error of the handler, and prepares the next call.
func (b *batcher) onFailure(leader *stream, err error, panicked bool) {
	defer b.prepareRetry(leader, err, panicked) // Also if the error callback ends the goroutine.
	b.reportFailure(err)
}

// prepareRetry decides what is offered next, after the handler has failed.
func (b *batcher) prepareRetry(leader *stream, err error, panicked bool) {
	r := &b.run
	offered, first := r.span, !r.failed
	if first {
		r.failed = true
		if panicked {
			b.server.counts.panics.Add(uint64(offered))
		} else {
			b.server.counts.handlerErrors.Add(uint64(offered))
		}
		r.dropPlain()
	}
	switch {
	case r.left == 0:
	case offered == 1:
		b.redeliverOne(leader, err)
	case first:
		r.first().stream.sleep(minRedeliveryPause) // If it ends early, releaseDone finds the reason.
		r.offerNext(0)
	default:
		r.offerNext(offered)
	}
}

// reportFailure reports an error of the handler.
func (b *batcher) reportFailure(err error) {
	first, messages := b.run.first(), b.run.span
	where := first.stream.addrText()
	if messages > first.left { // Of several connections.
		where = b.server.cfg.AddrText
	}
	err = asHandlerError(err)
	if messages > 1 {
		err = fmt.Errorf("batch of %d messages: %w", messages, err)
	}
	b.server.Report(errdefs.OpHandle, where, err)
}

// dropPlain gives up the messages of plain connections: they are delivered once.
func (r *batchRun) dropPlain() {
	for i := range r.parts {
		if p := &r.parts[i]; p.stream.acks == nil {
			r.left -= p.left
			p.left = 0
		}
	}
}

// redeliverOne has the first message, for which the handler has failed alone, redelivered: its stream
// waits, and submits it again with those behind it. Other streams go on meanwhile. After the last
// failure the message becomes a dead letter instead.
func (b *batcher) redeliverOne(leader *stream, err error) {
	p := b.run.first()
	c := p.stream
	c.attempts = attempts{seq: p.seq, count: c.attempts.countFor(p.seq) + 1}
	if c.attempts.count <= b.server.cfg.MaxRedeliveries {
		c.batch.rest = *p
		b.run.left -= p.left
		p.left = 0
		b.run.offerNext(0)
		return
	}
	data, _ := c.in.FirstMessage(p.frames)
	seq := p.seq
	defer func() { // After the callback: who is killed in it gets the message again.
		b.run.markHandled(1)
		b.run.offerNext(0)
	}()
	if c.sink.DeadLetter != nil {
		defer b.callDeadLetter(leader, c, data, seq, err) // Also if the error callback ends the goroutine.
	}
	c.onDeadLetter(seq, err)
}

// callDeadLetter calls the callback for a dead letter.
func (b *batcher) callDeadLetter(leader, c *stream, data []byte, seq uint64, err error) {
	leader.inHandler.Store(true)
	returned := false
	defer func() {
		leader.inHandler.Store(false)
		if returned {
			return
		}
		b.server.Report(errdefs.OpHandle, c.addrText(), panicError(recover()))
	}()
	c.sink.DeadLetter(data, seq, err)
	returned = true
}
