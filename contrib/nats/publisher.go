// SPDX-License-Identifier: Apache-2.0

package natsbridge

// This file is the Publisher as a handler sees it: messages go into a queue by Writer, and come back when the
// stream has them.

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
)

// maxAtomicBatch is the largest batch that a server accepts, unless it is configured otherwise.
const maxAtomicBatch = 1000

// maxWriters is how many Writers a Publisher remembers, of those that have no message queued. Each takes
// about 250 bytes.
const maxWriters = 16384

// A Publisher publishes batches of local messages to a stream. Its methods may be called from any
// goroutine. It has no goroutine while no handler waits, so there is nothing to stop.
type Publisher struct {
	js     jetstream.JetStream
	stream string
	prefix string
	cfg    publisherConfig
	id     [8]byte // Of this instance: in names of batches and of plain connections.

	sending    sync.Mutex    // Held while messages are sent, so that no handler returns meanwhile.
	opened     openedStream  // Guarded by sending.
	committing sync.Mutex    // Held from the last message of an atomic batch to its answer: see commit.
	nextBatch  atomic.Uint64 // Number in the name of the next batch.

	mu       sync.Mutex // Guards what follows.
	writers  map[writerKey]*writer
	queue    []*part // In the order of their arrival.
	active   int     // Goroutines that publish.
	maxBatch int     // Messages of a batch: cfg.maxBatch, or what the server takes.
	limit    int     // The same: less after a stream was full.
	probe    int     // The same after failures.
	failures int     // Tries in a row that failed. Then there is one try at a time.
	resumeAt time.Time
	moveAt   time.Time       // It goes to another server then.
	reported map[string]bool // Causes since it has last succeeded.
	told     bool            // The last call of the state callback had a cause.
	stuck    int             // Parts whose failure is reported, and that are not stored yet.
	accepted uint64          // Batches that were stored.
	scan     uint64          // Number of the last search for messages.
	plain    uint64          // Number of the last plain connection.

	unanswered, settled uint64 // Batches without an answer; those of them in front of a message that has one.

	reporting sync.Mutex // Calls of the state callback do not overlap.

	counts publisherCounts
}

// A part has the messages of one Writer in one call of Handle.
type part struct {
	writer *writer
	batch  []udsipc.Delivery // What is not handled yet. Valid until Handle returns.
	ctx    context.Context
	done   chan struct{} // Closed when the part is handled, or err is set.
	err    error
	shift  uint64 // What the number of a message is more than its Seq: of plain messages.
	alone  bool   // It is published without others: one of a batch has failed for what it is.
	failed int    // Tries in a row.
	most   int    // Messages of its next batch; 0: as many as there are.

	conflicts int    // Those of them that met something else than was thought.
	sent      uint64 // A failed try may have stored the messages up to this number.
	tried     bool   // It has failed alone, when there were that many accepted batches:
	accepted  uint64
	stuck     bool  // It counts in Publisher.stuck.
	refused   error // Of a plain message. The others are published.
}

// seq returns the number of a message. A Reader numbers the plain messages of each of its connections from 1,
// as another Reader does; here they go on.
func (q *part) seq(i int) uint64 { return q.batch[i].Seq + q.shift }

// PublisherMetrics are the counters of a Publisher.
type PublisherMetrics struct {
	Published uint64 `json:"published"` // Messages that the stream has acknowledged.
	Skipped   uint64 `json:"skipped"`   // Messages that the stream had already.
	Batches   uint64 `json:"batches"`   // Acknowledged batches.
	Failed    uint64 `json:"failed"`    // Batches that were not acknowledged, and tried again.
	Conflicts uint64 `json:"conflicts"` // Those of them that met messages of an earlier try, or of another bridge.
	Waiting   int    `json:"waiting"`   // Messages that handlers wait for.
}

type publisherCounts struct {
	published, skipped, batches, failed, conflicts atomic.Uint64
	waiting                                        atomic.Int64
}

// NewPublisher returns a Publisher to a stream, whose subjects must have PREFIX.> (or PREFIX.* without
// WithSubject). Nothing is sent before the first message: the cluster need not be there. The connection of
// js should reconnect for ever (nats.MaxReconnects(-1)), also after a server has refused its credentials twice
// (nats.IgnoreAuthErrorAbort): a closed one is reported, and handlers then wait until their Reader stops.
func NewPublisher(js jetstream.JetStream, stream, prefix string, opts ...PublisherOption) (*Publisher, error) {
	if js == nil {
		return nil, errors.New("natsbridge: NewPublisher: js is nil")
	}
	if stream == "" || !validTokens(prefix) {
		return nil, fmt.Errorf("natsbridge: NewPublisher: stream %q, prefix %q: want a name, and tokens of a subject",
			stream, prefix)
	}
	p := &Publisher{js: js, stream: stream, prefix: prefix, cfg: defaultPublisherConfig(),
		writers: make(map[writerKey]*writer), reported: make(map[string]bool), unanswered: 1} // Of a process before this one.
	for _, set := range opts {
		set(&p.cfg)
	}
	if err := p.cfg.check(); err != nil {
		return nil, err
	}
	p.maxBatch, p.limit, p.probe = p.cfg.maxBatch, p.cfg.maxBatch, p.cfg.maxBatch
	_, _ = rand.Read(p.id[:])
	return p, nil
}

// validTokens reports whether s can be published to: tokens that are not empty, without wildcards and spaces.
func validTokens(s string) bool {
	for token := range strings.SplitSeq(s, ".") {
		if token == "" || strings.ContainsAny(token, "*> \t\r\n\x00") {
			return false
		}
	}
	return true
}

// Metrics returns the counters.
func (p *Publisher) Metrics() PublisherMetrics {
	c := &p.counts
	return PublisherMetrics{
		Published: c.published.Load(), Skipped: c.skipped.Load(), Batches: c.batches.Load(), Failed: c.failed.Load(),
		Conflicts: c.conflicts.Load(), Waiting: int(c.waiting.Load()),
	}
}

// Handle is a udsipc.BatchHandler. It returns nil when the stream has all messages of the batch. While the
// cluster accepts none it waits, and the Writers keep their messages. It returns an error if ctx ends, or
// if the stream will never accept a message (too large for the server): the Reader then finds that
// message, and makes it a dead letter. The other plain messages of the batch are published nevertheless.
func (p *Publisher) Handle(ctx context.Context, batch []udsipc.Delivery) error {
	var few [1]*part // Without shared batches there is one.
	parts := few[:0]
	p.mu.Lock()
	for len(batch) > 0 {
		n := sameWriter(batch)
		q := &part{writer: p.writerOfLocked(p.keyOf(&batch[0])), batch: batch[:n:n], ctx: ctx, done: make(chan struct{})}
		if w := q.writer; w.plain {
			q.shift = w.next - batch[0].Seq
			w.next = q.seq(n-1) + 1
		}
		p.queue = append(p.queue, q)
		parts, batch = append(parts, q), batch[n:]
		p.counts.waiting.Add(int64(n))
	}
	p.spawnLocked()
	p.mu.Unlock()
	var first error
	for _, q := range parts {
		if err := p.await(ctx, q); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// await waits until a part is handled.
func (p *Publisher) await(ctx context.Context, q *part) error {
	select {
	case <-q.done:
		return q.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	if q.isDone() {
		p.mu.Unlock()
		return q.err
	}
	p.endLocked(q, context.Cause(ctx))
	p.mu.Unlock()
	p.sending.Lock() // Its messages may be on their way to the connection.
	defer p.sending.Unlock()
	return q.err
}

// sameWriter returns how many of the first messages are of one connection.
func sameWriter(batch []udsipc.Delivery) int {
	for i := range batch {
		if batch[i].Writer != batch[0].Writer || batch[i].Peer.ID != batch[0].Peer.ID {
			return i
		}
	}
	return len(batch)
}

// keyOf returns the Writer of a message. A plain connection has none.
func (p *Publisher) keyOf(d *udsipc.Delivery) writerKey {
	key := writerKey{user: userOf(&d.Peer), writer: d.Writer}
	if d.Writer == (udsipc.WriterID{}) {
		key.plain = true
		copy(key.writer[:8], p.id[:])
		binary.BigEndian.PutUint64(key.writer[8:], d.Peer.ID)
	}
	return key
}

func (q *part) isDone() bool {
	select {
	case <-q.done:
		return true
	default:
		return false
	}
}

// endLocked ends a part: its handler returns.
func (p *Publisher) endLocked(q *part, err error) {
	for i, other := range p.queue {
		if other == q {
			p.queue = append(p.queue[:i], p.queue[i+1:]...)
			break
		}
	}
	p.counts.waiting.Add(-int64(len(q.batch)))
	p.unstickLocked(q)
	if q.err = err; err == nil {
		q.err = q.refused
	}
	close(q.done)
}
