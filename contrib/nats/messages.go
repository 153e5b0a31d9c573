// SPDX-License-Identifier: Apache-2.0

package natsbridge

// This file makes the messages of the stream: subjects and headers.

import (
	"fmt"
	"runtime/debug"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
)

// Headers of atomic batches.
const (
	batchIDHeader     = "Nats-Batch-Id"
	batchSeqHeader    = "Nats-Batch-Sequence"
	batchCommitHeader = "Nats-Batch-Commit"
)

// filter returns the subjects of a Writer.
func (p *Publisher) filter(w *writer) string {
	if p.cfg.subject == nil {
		return p.prefix + "." + w.token
	}
	return p.prefix + "." + w.token + ".>"
}

// A batchWriter makes the messages of a batch. It has one nats.Msg, which nats.go copies.
type batchWriter struct {
	p       *Publisher
	allIDs  bool
	limit   int    // Bytes of a message.
	id      string // Empty for a message alone.
	total   int
	number  int    // Of the last message.
	subject string // Valid one of the batch.
	m       nats.Msg
}

// message returns a message of a piece. It is valid until the next call.
func (b *batchWriter) message(piece *piece, i int) (*nats.Msg, error) {
	d, w := &piece.part.batch[i], piece.part.writer
	b.number++
	if b.m.Header == nil {
		b.m.Header = make(nats.Header, 6)
	}
	h := b.m.Header
	clear(h)
	rest, err := b.call(d, h)
	if err != nil {
		return nil, err
	}
	if b.id != "" {
		h[batchIDHeader] = []string{b.id}
		h[batchSeqHeader] = []string{strconv.Itoa(b.number)}
	}
	if b.id != "" && b.number == b.total {
		h[batchCommitHeader] = []string{"1"}
	}
	if i == piece.skip {
		h[nats.ExpectedLastSubjSeqHdr] = []string{strconv.FormatUint(w.last, 10)}
		if b.p.cfg.subject != nil {
			h[jetstream.ExpectedLastSubjSeqSubjHeader] = []string{b.p.filter(w)}
		}
	}
	if i == piece.n-1 || b.allIDs {
		h[nats.MsgIdHdr] = []string{w.token + "." + strconv.FormatUint(piece.part.seq(i), 10)}
	}
	b.m.Data = d.Data
	if err := b.setSubject(d, w, rest); err != nil {
		return nil, err
	}
	return &b.m, b.checkSize(d)
}

// checkSize refuses a message that the stream would. In a batch, a server says only that one is missing.
func (b *batchWriter) checkSize(d *udsipc.Delivery) error {
	size := len(d.Data) + len("NATS/1.0\r\n\r\n")
	for name, values := range b.m.Header {
		for _, value := range values {
			size += len(name) + len(": \r\n") + len(value)
		}
	}
	if size > b.limit {
		return fmt.Errorf("%w: message %d: %d bytes with its headers: the stream takes %d", errTooLarge, d.Seq, size, b.limit)
	}
	return nil
}

// abandon ends a batch that was begun, by a number out of turn. A server would wait for the others, and it
// counts the batches that it has (WithMaxInFlight).
func (b *batchWriter) abandon() {
	if b.id == "" || b.number < 2 {
		return
	}
	clear(b.m.Header)
	b.m.Header[batchIDHeader] = []string{b.id}
	b.m.Header[batchSeqHeader] = []string{strconv.Itoa(b.total + 2)}
	b.m.Subject, b.m.Data = b.subject, nil
	_ = b.p.js.Conn().PublishMsg(&b.m) // Without a connection the server does it after 10 s.
}

// call calls the functions of the options. A panic costs the message, as in a handler of a Reader.
func (b *batchWriter) call(d *udsipc.Delivery, h nats.Header) (rest string, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w for message %d: panic: %v\n%s", errCallback, d.Seq, v, debug.Stack())
		}
	}()
	if b.p.cfg.header != nil {
		b.p.cfg.header(d, h)
	}
	if b.p.cfg.subject != nil {
		rest = b.p.cfg.subject(d)
	}
	return rest, nil
}

func (b *batchWriter) setSubject(d *udsipc.Delivery, w *writer, rest string) error {
	b.m.Subject = b.p.prefix + "." + w.token
	if b.p.cfg.subject == nil {
		b.subject = b.m.Subject
		return nil
	}
	if !validTokens(rest) {
		return fmt.Errorf("%w: WithSubject returns %q for message %d of writer %s", errSubject, rest, d.Seq, w.token)
	}
	b.m.Subject += "." + rest
	b.subject = b.m.Subject
	return nil
}
