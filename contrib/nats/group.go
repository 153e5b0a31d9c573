// SPDX-License-Identifier: Apache-2.0

package natsbridge

// This file makes the batches of a stream out of the messages that wait, whosever they are, and decides
// what comes after each of them.

import (
	"fmt"
	"slices"
	"time"
)

// A group is a batch of the stream. It has messages of each Writer once, one after another.
type group struct {
	pieces   []piece
	messages int  // That are sent.
	sent     bool // Something was sent: the stream may have it.
}

// A piece has the first messages of a part.
type piece struct {
	part      *part
	n         int    // Messages that are taken.
	skip      int    // The first of these that the stream has already.
	conflicts int    // Earlier tries that met something else than was thought.
	fresh     bool   // The Writer is new, unless a first try has failed.
	lastSeq   uint64 // Of the last message.
}

// spawnLocked starts a goroutine if messages wait for one. It ends when it finds nothing.
func (p *Publisher) spawnLocked() {
	if p.active < p.maxActiveLocked() && p.mayTakeLocked() {
		p.active++
		go p.work()
	}
}

// maxActiveLocked returns how many batches may be on their way. While tries fail it is one.
func (p *Publisher) maxActiveLocked() int {
	if p.failures > 0 {
		return 1
	}
	return p.cfg.maxInFlight
}

func (p *Publisher) mayTakeLocked() bool {
	now := time.Now()
	return !now.Before(p.resumeAt) && slices.ContainsFunc(p.queue, func(q *part) bool { return q.writer.isReady(now) })
}

func (w *writer) isReady(now time.Time) bool { return !w.taken && !now.Before(w.resumeAt) }

// work publishes batches until nothing waits, or until it is time to pause.
func (p *Publisher) work() {
	var g *group
	ended := false
	defer func() {
		if !ended { // A callback has ended the goroutine (runtime.Goexit).
			go p.resume(g) // Ends as this one would have.
		}
	}()
	for {
		if g = p.next(); g == nil {
			ended = true
			return
		}
		err, tried := p.try(g), g
		g = nil
		p.finish(tried, err)
	}
}

// resume goes on after a callback has ended the goroutine that published g.
func (p *Publisher) resume(g *group) {
	if g != nil {
		p.finish(g, fmt.Errorf("%w: it has ended its goroutine (runtime.Goexit)", errCallback))
	}
	p.work()
}

// next takes the messages of the next batch. Without any it ends the goroutine.
func (p *Publisher) next() *group {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.active <= p.maxActiveLocked() && !time.Now().Before(p.resumeAt) {
		if g := p.takeLocked(); g != nil {
			return g
		}
	}
	p.active--
	return nil
}

// takeLocked takes messages in the order of their arrival.
func (p *Publisher) takeLocked() *group {
	g := &group{}
	bytes, limit := 0, p.limit
	if p.failures > 1 {
		limit = min(limit, p.probe)
	}
	if !p.isSettledLocked() {
		limit = 1
	}
	now := time.Now()
	p.scan++
	for _, q := range p.queue {
		if !q.writer.isReady(now) || q.writer.scan == p.scan {
			continue
		}
		if q.alone && g.messages > 0 {
			q.writer.scan = p.scan
			continue
		}
		n, most := 0, len(q.batch)
		if q.most > 0 {
			most = min(most, q.most)
		}
		for n < most && g.messages+n < limit && (bytes < p.cfg.maxBytes || g.messages+n == 0) {
			bytes += len(q.batch[n].Data)
			n++
		}
		if n == 0 {
			break
		}
		q.writer.taken = true
		g.pieces = append(g.pieces, piece{
			part: q, n: n, conflicts: q.conflicts,
			fresh: q.seq(0) == 1 && !q.batch[0].Redelivered && q.failed == 0,
		})
		g.messages += n
		if q.alone {
			break
		}
	}
	if g.messages == 0 {
		return nil
	}
	return g
}

// finish gives the messages of a batch back: as handled, or to be tried again.
func (p *Publisher) finish(g *group, err error) {
	verdict := judge(err)
	p.mu.Lock()
	for _, piece := range g.pieces {
		p.finishPieceLocked(g, &piece, verdict, err)
	}
	report, cause := p.noteLocked(g, verdict, err)
	p.spawnLocked()
	p.mu.Unlock()
	if report {
		p.reporting.Lock()
		defer p.reporting.Unlock()
		p.cfg.state(cause)
	}
}

func (p *Publisher) finishPieceLocked(g *group, piece *piece, v verdict, err error) {
	q := piece.part
	q.writer.taken = false
	if v != stored && g.sent { // The stream may have it nevertheless.
		q.writer.known = false
		q.sent = max(q.sent, piece.lastSeq)
	}
	if q.isDone() {
		return // Its handler has returned.
	}
	if v != stored {
		q.failed++
	}
	switch {
	case v == stored:
		p.advanceLocked(q, piece.n)
	case v == refused && len(g.pieces) == 1 && q.writer.plain:
		p.refusePlainLocked(q, piece.n, err)
	case v == refused && len(g.pieces) == 1:
		p.endLocked(q, err) // If it has more than one message, the Reader finds it.
	case v == refused:
		q.alone = true
	case v == conflict:
		q.alone = true
		q.conflicts++
	case v == full, v == wrong:
		q.alone = q.alone || q.failed > 1 // It may be the only one for which this is so.
	}
}

// advanceLocked removes the first messages of a part, which are stored.
func (p *Publisher) advanceLocked(q *part, n int) {
	if n == 0 {
		return
	}
	q.failed, q.tried = 0, false
	if !q.writer.plain {
		q.most = 0
	}
	if q.conflicts < 2 || q.writer.known { // Else it goes on message by message: they are repetitions.
		q.conflicts = 0
	}
	q.alone = q.conflicts > 0 || q.most > 0
	p.counts.waiting.Add(-int64(n))
	if q.batch = q.batch[n:]; len(q.batch) == 0 {
		p.endLocked(q, nil)
	}
}

// refusePlainLocked looks for the message that is refused among the first n, and leaves it out: a Reader does not
// deliver plain messages again.
func (p *Publisher) refusePlainLocked(q *part, n int, err error) {
	if n > 1 {
		q.alone, q.most = true, n/2
		return
	}
	if q.refused == nil {
		q.refused = err
	}
	q.most = 0
	p.advanceLocked(q, 1)
}
