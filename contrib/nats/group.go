// SPDX-License-Identifier: Apache-2.0

package natsbridge

// This file makes the batches of a stream out of the messages that wait, whosever they are, and decides
// what comes after each of them.

import (
	"math/rand/v2"
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
	return !time.Now().Before(p.resumeAt) && slices.ContainsFunc(p.queue, func(q *part) bool { return !q.writer.taken })
}

// work publishes batches until nothing waits, or until it is time to pause.
func (p *Publisher) work() {
	for {
		g := p.next()
		if g == nil {
			return
		}
		p.finish(g, p.try(g))
	}
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
	for _, q := range p.queue {
		if q.writer.taken {
			continue
		}
		if q.alone && g.messages > 0 {
			continue
		}
		n := 0
		for n < len(q.batch) && g.messages+n < limit && (bytes < p.cfg.maxBytes || g.messages+n == 0) {
			bytes += len(q.batch[n].Data)
			n++
		}
		if n == 0 {
			break
		}
		q.writer.taken = true
		first := &q.batch[0]
		g.pieces = append(g.pieces, piece{
			part: q, n: n, conflicts: q.conflicts, fresh: first.Seq == 1 && !first.Redelivered && q.failed == 0,
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
	report, cause := p.noteLocked(verdict, err)
	p.spawnLocked()
	p.mu.Unlock()
	if report {
		p.reporting.Lock()
		p.cfg.state(cause)
		p.reporting.Unlock()
	}
}

func (p *Publisher) finishPieceLocked(g *group, piece *piece, v verdict, err error) {
	q := piece.part
	q.writer.taken = false
	if v != stored && g.sent {
		q.writer.known = false // The stream may have it nevertheless.
	}
	if q.isDone() {
		return // Its handler has returned.
	}
	if v != stored {
		q.failed++
	}
	switch {
	case v == stored:
		q.alone, q.failed, q.conflicts = false, 0, 0
		if q.batch = q.batch[piece.n:]; len(q.batch) == 0 {
			p.endLocked(q, nil)
		}
		p.counts.waiting.Add(-int64(piece.n))
	case v == refused && len(g.pieces) == 1:
		p.endLocked(q, err) // If it has more than one message, the Reader finds it.
	case v == refused:
		q.alone = true
	case v == conflict:
		q.alone = true
		q.conflicts++
	}
}

// noteLocked decides when the next try is, and whether the caller learns of the cause.
func (p *Publisher) noteLocked(v verdict, err error) (report bool, cause error) {
	switch v {
	case stored:
		p.failures, p.resumeAt = 0, time.Time{}
		if p.limit == p.cfg.maxBatch { // A full stream that has room for a few messages is still full.
			report = len(p.reported) > 0
			clear(p.reported)
		}
		p.limit, p.probe = min(p.cfg.maxBatch, 2*p.limit), p.cfg.maxBatch
		return report, nil
	case refused, retracted: // They say nothing about the cluster.
		return false, nil
	case full:
		p.limit = max(1, p.limit/2) // There may be room for less.
	case away, wrong:
		p.probe = 1 // A lost permission is an error of the connection for each message.
		p.moveLocked(v)
	}
	p.counts.failed.Add(1)
	if v == conflict {
		p.counts.conflicts.Add(1)
	}
	p.failures++
	if v == conflict && p.failures == 1 {
		return false, nil
	}
	p.pauseLocked()
	key := causeOf(err)
	if p.failures < minReported(v) || p.reported[key] || len(p.reported) >= maxReported {
		return false, nil
	}
	p.reported[key] = true
	return true, err
}

// moveLocked connects to another server if this one does not reach the stream for long: the others may.
func (p *Publisher) moveLocked(v verdict) {
	now := time.Now()
	if p.failures == 0 {
		p.moveAt = now.Add(p.cfg.moveAfter)
	}
	if nc := p.js.Conn(); v == away && p.cfg.moveAfter > 0 && now.After(p.moveAt) && nc.IsConnected() {
		p.moveAt = now.Add(p.cfg.moveAfter)
		go func() { _ = nc.ForceReconnect() }() // It waits for nats.go's own locks, but for no server.
	}
}

// pauseLocked has the next try wait, and wakes it.
func (p *Publisher) pauseLocked() {
	bound := min(p.cfg.maxBackoff, minBackoff<<min(p.failures-1, 16))
	pause := bound/2 + rand.N(bound/2+1)
	p.resumeAt = time.Now().Add(pause)
	time.AfterFunc(pause, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.spawnLocked()
	})
}

// minBackoff is the bound of the first pause.
const minBackoff = 50 * time.Millisecond

// maxReported bounds the causes that are reported until publishing succeeds again.
const maxReported = 16

// minReported is the number of tries in a row that fail before it is reported. Conflicts, and batches that
// a change of the leader has interrupted, are mended by the next try.
func minReported(v verdict) int {
	switch v {
	case conflict:
		return 6
	case away:
		return 2
	}
	return 1
}
