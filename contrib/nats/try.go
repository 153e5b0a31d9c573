// SPDX-License-Identifier: Apache-2.0

package natsbridge

// This file sends a batch to the stream and waits for its answer.

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// An openedStream is what a Publisher knows of its stream.
type openedStream struct {
	stream jetstream.Stream // nil: it was not looked at since a try has failed.
	allIDs bool             // Its consumers remove messages.
	limit  int              // Bytes of a message and its headers.
	files  bool             // Its server makes files for an atomic batch.
	ask    time.Duration    // The shortest time that a request has taken.
}

// try publishes a batch. nil means that the stream has it. Until it has sent something, what is known of the
// Writers stays.
func (p *Publisher) try(g *group) error {
	if nc := p.js.Conn(); !nc.IsConnected() { // What is sent now would wait in nats.go's buffer.
		if err := nc.LastError(); err != nil {
			return fmt.Errorf("%w: %w", nats.ErrDisconnected, err)
		}
		return fmt.Errorf("%w: %v", nats.ErrDisconnected, nc.Status())
	}
	before := p.js.Conn().LastError() // It stays for ever.
	s, err := p.open()
	for i := 0; i < len(g.pieces) && err == nil; i++ {
		err = p.learn(s.stream, &g.pieces[i])
	}
	if err != nil {
		return p.explain(err, before)
	}
	ack, err := p.send(s, g)
	if err != nil {
		p.sending.Lock()
		p.opened.stream = nil // It may be another one afterwards.
		p.sending.Unlock()
		return p.explain(err, before)
	}
	p.stored(g, ack)
	return nil
}

// learn finds out what the stream has of a Writer.
func (p *Publisher) learn(s jetstream.Stream, piece *piece) error {
	w := piece.part.writer
	switch {
	case w.known:
		return nil
	case piece.fresh: // The compare-and-set finds out if that is wrong.
		w.last, w.known, w.numbers = 0, true, true
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.cfg.ackTimeout)
	defer cancel()
	return p.readBack(ctx, s, w)
}

// explain adds to a lack of answers why there may be none: a lost permission is told to the connection only.
func (p *Publisher) explain(err, before error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) {
		err = fmt.Errorf("no acknowledgement in %v (WithAckTimeout): %w", p.cfg.ackTimeout, nats.ErrTimeout)
		if last := p.js.Conn().LastError(); !errors.Is(last, before) && errors.Is(last, nats.ErrPermissionViolation) {
			err = fmt.Errorf("%w: %w", err, last)
		}
	}
	if errors.Is(err, nats.ErrNoResponders) {
		err = fmt.Errorf("no stream answers under %s: %w", p.prefix, err)
	}
	return err
}

// open looks at the stream.
func (p *Publisher) open() (openedStream, error) {
	p.sending.Lock()
	defer p.sending.Unlock()
	if p.opened.stream != nil {
		return p.opened, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.cfg.ackTimeout)
	defer cancel()
	began := time.Now()
	s, err := p.js.Stream(ctx, p.stream)
	took := time.Since(began)
	if err != nil {
		return openedStream{}, fmt.Errorf("stream %s: %w", p.stream, err)
	}
	cfg := &s.CachedInfo().Config
	if err := p.checkStream(cfg); err != nil {
		return openedStream{}, err
	}
	p.opened = openedStream{stream: s, allIDs: p.cfg.allIDs || cfg.Retention != jetstream.LimitsPolicy}
	p.opened.limit = int(p.js.Conn().MaxPayload())
	if n := int(cfg.MaxMsgSize); n > 0 {
		p.opened.limit = min(p.opened.limit, n)
	}
	p.opened.files = cfg.Replicas <= 1 && cfg.Storage == jetstream.FileStorage
	p.opened.ask = took
	return p.opened, nil
}

// send sends the messages, and waits for the answer to the last one. Without messages it does nothing.
func (p *Publisher) send(s openedStream, g *group) (pubAck, error) {
	b, m, err := p.sendAll(s, g)
	if err != nil || m == nil {
		return pubAck{}, err
	}
	began := time.Now()
	answer, err := p.commit(m, g.messages > 1)
	if errors.Is(err, errUnsettled) {
		b.abandon()
		g.sent = false // Nothing of it is stored.
	}
	if err != nil {
		return pubAck{}, err
	}
	if g.messages == 1 {
		p.sending.Lock()
		p.opened.ask = min(p.opened.ask, time.Since(began))
		p.sending.Unlock()
	}
	ack, err := parseAck(answer.Data, p.stream)
	if err == nil && g.messages > 1 && ack.Count != g.messages {
		err = fmt.Errorf("%w: it has %d messages: want %d", errNoAck, ack.Count, g.messages)
	}
	return ack, err
}

// commit sends the last message of a batch, and waits for the answer. Atomic batches are committed one after
// another; the messages before the last one may be there already. A server that splits several batches into
// entries of its log may have one with the end of a batch and the start of the next. A replica that catches up
// and begins at such an entry takes the end for a batch without a start, and loses as many later messages.
//
// A batch without an answer may still wait in front of a server that is slow. Until a message alone behind it has an
// answer, no other batch is committed.
func (p *Publisher) commit(m *nats.Msg, atomic bool) (*nats.Msg, error) {
	if atomic {
		p.committing.Lock()
		defer p.committing.Unlock()
	}
	p.mu.Lock()
	unanswered := p.unanswered
	settled := p.isSettledLocked()
	p.mu.Unlock()
	if atomic && !settled {
		return nil, errUnsettled
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.cfg.ackTimeout)
	defer cancel()
	answer, err := p.js.Conn().RequestMsgWithContext(ctx, m)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		p.settled = max(p.settled, unanswered)
	case atomic && !errors.Is(err, nats.ErrNoResponders):
		p.unanswered++
	}
	return answer, err
}

// isSettledLocked reports whether no batch without an answer can still be on its way: of this Publisher, or of one
// before it.
func (p *Publisher) isSettledLocked() bool { return p.settled == p.unanswered }

// sendAll sends all messages of a batch but the last one, and returns that and its maker. A message alone is no batch.
// While it holds sending, no handler whose messages it reads returns.
func (p *Publisher) sendAll(s openedStream, g *group) (b *batchWriter, last *nats.Msg, err error) {
	p.sending.Lock()
	defer p.sending.Unlock()
	for i := range g.pieces {
		if g.pieces[i].part.isDone() {
			return nil, nil, errRetracted
		}
	}
	if g.leaveOut(s.allIDs); g.messages <= p.singleMessages(&s) {
		g.takeFirst()
	}
	g.sent = g.messages > 0
	b = &batchWriter{p: p, allIDs: s.allIDs, limit: s.limit, total: g.messages}
	if g.messages > 1 {
		b.id = hex.EncodeToString(p.id[:4]) + strconv.FormatUint(p.nextBatch.Add(1), 36)
	}
	for i := range g.pieces {
		piece := &g.pieces[i]
		for j := piece.skip; j < piece.n; j++ {
			m, err := b.message(piece, j)
			if err == nil && b.number == b.total {
				m.Data = bytes.Clone(m.Data) // The handler may return before it is sent.
				return b, m, nil
			}
			if err == nil {
				err = p.js.Conn().PublishMsg(m)
			}
			if err != nil {
				b.abandon()
				return nil, nil, err
			}
		}
	}
	return nil, nil, nil
}

// stored notes what the stream has now.
func (p *Publisher) stored(g *group, a pubAck) {
	next := a.Seq - uint64(g.messages)
	for i := range g.pieces {
		piece := &g.pieces[i]
		p.counts.skipped.Add(uint64(piece.skip))
		n := piece.n - piece.skip
		if n == 0 {
			continue
		}
		next += uint64(n)
		w := piece.part.writer
		w.handled, w.last, w.numbers = piece.lastSeq, next, true
		if a.Duplicate {
			w.known, w.numbers = false, false
			p.counts.skipped.Add(1)
			continue
		}
		p.counts.published.Add(uint64(n))
	}
	if g.messages > 0 {
		p.counts.batches.Add(1)
	}
}
