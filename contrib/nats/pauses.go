// SPDX-License-Identifier: Apache-2.0

package natsbridge

// This file decides what comes after a try: a pause, a report, another server. What fails for one Writer, while
// the messages of others are stored, delays that one alone.

import (
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
)

// noteLocked decides when the next try is, and whether the caller learns of the cause.
func (p *Publisher) noteLocked(g *group, v verdict, err error) (report bool, cause error) {
	switch v {
	case stored:
		return p.noteStoredLocked(g), nil
	case refused, retracted: // They say nothing about the cluster.
		return false, nil
	case smaller:
		p.counts.failed.Add(1)
		p.maxBatch = min(p.maxBatch, max(1, g.messages/2))
		p.limit, p.probe = min(p.limit, p.maxBatch), p.maxBatch
		return false, nil
	}
	p.counts.failed.Add(1)
	if v == conflict {
		p.counts.conflicts.Add(1)
	}
	if p.isOwnLocked(g, err) {
		return p.noteOwnLocked(g, v, err)
	}
	switch v {
	case full:
		p.limit = max(1, p.limit/2) // There may be room for less.
	case away, wrong:
		p.probe = 1 // A lost permission is an error of the connection for each message.
		p.moveLocked(v)
	}
	p.failures++
	if v == conflict && p.failures == 1 {
		return false, nil
	}
	pause := p.backoff(p.failures)
	p.resumeAt = time.Now().Add(pause)
	time.AfterFunc(pause, p.wake)
	return p.reportLocked(g, p.failures, v, err)
}

func (p *Publisher) noteStoredLocked(g *group) (report bool) {
	if g.messages > 0 {
		p.accepted++
	}
	p.failures, p.resumeAt = 0, time.Time{}
	if p.limit == p.maxBatch && p.stuck == 0 { // A full stream that has room for a few messages is still full.
		report, p.told = p.told, false
		clear(p.reported)
	}
	p.limit, p.probe = min(p.maxBatch, 2*p.limit), p.maxBatch
	return report
}

// isOwnLocked reports whether a failure is one of its Writer alone: other messages were stored between two of
// its tries. The messages of others go first then.
func (p *Publisher) isOwnLocked(g *group, err error) bool {
	if len(g.pieces) > 1 || errors.Is(err, nats.ErrDisconnected) {
		return false
	}
	q := g.pieces[0].part
	own := q.tried && q.accepted != p.accepted
	q.tried, q.accepted = true, p.accepted
	slices.SortStableFunc(p.queue, func(a, b *part) int {
		switch {
		case a.writer == b.writer:
			return 0
		case a.writer == q.writer:
			return 1
		case b.writer == q.writer:
			return -1
		}
		return 0
	})
	return own
}

// noteOwnLocked is noteLocked for a failure of one Writer alone.
func (p *Publisher) noteOwnLocked(g *group, v verdict, err error) (report bool, cause error) {
	q := g.pieces[0].part
	pause := p.backoff(q.failed)
	q.writer.resumeAt = time.Now().Add(pause)
	time.AfterFunc(pause, p.wake)
	if v == full {
		q.most = max(1, g.pieces[0].n/2)
	}
	return p.reportLocked(g, q.failed, v, err)
}

// stickLocked notes the parts of a batch that has failed. Until all their messages are stored, or their handlers
// return, it is not reported that publishing succeeds: the messages of others may be stored meanwhile.
func (p *Publisher) stickLocked(g *group) {
	for i := range g.pieces {
		if q := g.pieces[i].part; !q.stuck && !q.isDone() {
			q.stuck = true
			p.stuck++
		}
	}
}

// unstickLocked is called when a part ends.
func (p *Publisher) unstickLocked(q *part) {
	if q.stuck {
		q.stuck = false
		p.stuck--
	}
}

// reportLocked decides whether a cause is reported after that many tries.
func (p *Publisher) reportLocked(g *group, tries int, v verdict, err error) (report bool, cause error) {
	if tries < minReported(v) {
		return false, nil
	}
	p.stickLocked(g)
	key := causeOf(err)
	if p.reported[key] || len(p.reported) >= maxReported {
		return false, nil
	}
	p.reported[key], p.told = true, true
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

// backoff returns the pause after that many tries.
func (p *Publisher) backoff(tries int) time.Duration {
	bound := min(p.cfg.maxBackoff, minBackoff<<min(max(tries-1, 0), 16))
	return bound/2 + rand.N(bound/2+1)
}

func (p *Publisher) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spawnLocked()
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
