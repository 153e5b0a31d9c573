// SPDX-License-Identifier: Apache-2.0

package conform

// This file has the cases of a Writer with sessions.

import (
	"bytes"
	"time"

	"github.com/udsipc/udsipc/internal/wire"
)

var sessionWriterCases = []writerCase{
	{"session", "nothing is sent before the welcome", writerWaits, 0},
	{"session", "heartbeats before the welcome, and between acknowledgements", writerHeartbeats, 0},
	{"session", "the goodbye, then acknowledgements", writerGoodbye, 0},
	{"refusal", "a reader of another version (status 1)", refusedBy("05 02 01 00 00 00"), 0},
	{"refusal", "an old epoch (status 2)", refusedBy("05 01 02 00 00 00"), 0},
	{"refusal", "too many connections (goodbye and report)", refusedBy("00 07 01 01 00 80808005"), 0},
	{"refusal", "a welcome with a limit of 0", refusedBy("05 01 00 00 00 00"), 0},
	{"refusal", "no reply at all", refusedBy(""), 0},
	{"again", "a reader that is killed before it acknowledges", writerKilled, 0},
	{"again", "acknowledged messages are not sent again", writerAcked, 0},
	{"again", "the welcome has more than the acknowledgements", writerWelcomed, 0},
	{"again", "a cut after every byte of hello and messages", writerCutsIn, 0},
	{"again", "a cut after every byte of welcome and acknowledgements", writerCutsOut, 0},
	{"garbage", "an acknowledgement of a message that was not sent", badAck("80808080808001"), 0},
	{"garbage", "an acknowledgement that goes back", badAck("05 03"), 0},
	{"garbage", "an acknowledgement in a longer form", badAck("8100"), 0},
	{"garbage", "an acknowledgement over 64 bits", badAck("ffffffffffffffffff02"), 0},
}

// readHello reads a hello and checks it against the one before.
func (t *writerTest) readHello(p *peer) wire.Hello {
	deadline := time.Now().Add(t.opt.Timeout)
	for {
		h, size, err := wire.ParseHello(p.in)
		if err != nil {
			failf("% x is no hello: %v", p.in[:min(len(p.in), 64)], err)
		}
		if size > 0 {
			p.in = p.in[size:]
			t.checkHello(h)
			return h
		}
		if p.ended != nil || time.Now().After(deadline) {
			failf("no hello, but % x (%v)", p.in, p.ended)
		}
		p.more(time.Until(deadline))
	}
}

func (t *writerTest) checkHello(h wire.Hello) {
	if t.last == nil {
		t.base = h.FirstSeq - 1
		t.last = &h
		return
	}
	switch {
	case h.Writer != t.last.Writer:
		failf("the writer is %v, and was %v: it is the same on all connections", h.Writer, t.last.Writer)
	case h.Epoch <= t.last.Epoch:
		failf("the epoch is %d after %d", h.Epoch, t.last.Epoch)
	case h.FirstSeq > t.base+t.handled+1:
		failf("first is %d, and %d messages are handled", h.FirstSeq-t.base, t.handled)
	case h.LastSentSeq < t.base+t.seen:
		failf("sent is %d, and message %d has come", h.LastSentSeq-t.base, t.seen)
	}
	t.last = &h
}

func (t *writerTest) acceptSession() (*peer, wire.Hello) {
	p := t.accept()
	return p, t.readHello(p)
}

// welcome replies to a hello. Messages come from the one after t.handled on.
func (t *writerTest) welcome(p *peer, h wire.Hello) {
	if len(p.in) > 0 {
		failf("% x before the welcome", p.in[:min(len(p.in), 64)])
	}
	t.handled = max(t.handled, h.FirstSeq-1-t.base)
	p.write(wire.Welcome{Handled: t.base + t.handled, Limit: 10 << 20}.Append(nil))
	p.sent, p.acked = t.handled, t.handled
}

// ack acknowledges messages up to a number, which are handled thereby.
func (t *writerTest) ack(p *peer, number uint64) {
	if number <= p.acked {
		return
	}
	t.handled, p.acked = number, number
	_ = p.tryWrite(wire.AppendPrefix(nil, int(t.base+number)))
}

// serve handles messages up to a number, or the end of the connection.
func (t *writerTest) serve(p *peer, last uint64) {
	deadline := time.Now().Add(t.opt.Timeout)
	for {
		for p.sent < last && t.take(p) {
			deadline = time.Now().Add(t.opt.Timeout)
		}
		t.ack(p, p.sent)
		if p.sent >= last || p.ended != nil {
			break
		}
		t.moreUntil(p, deadline, last)
	}
	if p.sent >= uint64(t.messages) {
		t.drain(p) // It ends its side.
		p.close()
	}
}

// part ends a connection so that an acknowledgement arrives: by the goodbye, and end of file.
func (t *writerTest) part(p *peer) {
	_ = p.tryWrite(wire.Goodbye)
	t.drain(p)
	p.close()
}

// oneMore lets the Writer make progress, so that it does not wait longer and longer between connections.
func (t *writerTest) oneMore() {
	p, h := t.acceptSession()
	t.welcome(p, h)
	t.read(p, t.handled+1)
	t.ack(p, p.sent)
	t.part(p)
}

func writerWaits(t *writerTest) {
	p, h := t.acceptSession()
	p.more(quiet)
	t.welcome(p, h) // Fails if something has come.
	t.serve(p, uint64(t.messages))
}

func writerHeartbeats(t *writerTest) {
	p, h := t.acceptSession()
	p.write(bytes.Repeat(wire.Heartbeat, 200))
	t.welcome(p, h)
	for range 10 {
		t.read(p, t.handled+1)
		p.write(bytes.Repeat(wire.Heartbeat, 200))
		t.ack(p, t.handled+1)
		p.write(wire.Heartbeat[:1])
		p.write(wire.Heartbeat[1:])
	}
	t.serve(p, uint64(t.messages))
}

func writerGoodbye(t *writerTest) {
	p, h := t.acceptSession()
	t.welcome(p, h)
	t.read(p, 20)
	t.ack(p, 10)
	p.write(wire.Goodbye)
	p.write(wire.Heartbeat)
	t.ack(p, 15)
	t.drain(p)
	t.ack(p, p.sent) // All that has come completely.
	p.close()
	if t.handled >= uint64(t.messages) {
		return
	}
	p, h = t.acceptSession()
	if want := t.base + t.handled + 1; h.FirstSeq != want {
		failf("first is %d, want %d: what was acknowledged after the goodbye counts", h.FirstSeq-t.base, want-t.base)
	}
	t.welcome(p, h)
	t.serve(p, uint64(t.messages))
}

// refusedBy answers the first hello with these bytes. The Writer sends no message, keeps all, and comes again.
func refusedBy(reply string) func(*writerTest) {
	return func(t *writerTest) { writerRefused(t, reply) }
}

func writerRefused(t *writerTest, reply string) {
	p, _ := t.acceptSession()
	p.write(fromHex(reply))
	p.closeWrite()
	if b := p.awaitEnd(); len(b) > 0 {
		failf("% x after the refusal", b[:min(len(b), 64)])
	}
	p.close()
}

func writerKilled(t *writerTest) {
	p, h := t.acceptSession()
	t.welcome(p, h)
	t.read(p, 50)
	p.close()
	p, h = t.acceptSession()
	if h.FirstSeq != t.base+1 {
		failf("first is %d, and nothing was acknowledged", h.FirstSeq-t.base)
	}
	t.welcome(p, h)
	t.serve(p, uint64(t.messages))
}

func writerAcked(t *writerTest) {
	p, h := t.acceptSession()
	t.welcome(p, h)
	t.read(p, 50)
	t.ack(p, 30)
	t.part(p)
	p, h = t.acceptSession()
	if h.FirstSeq != t.base+31 {
		failf("first is %d, and 30 messages were acknowledged", h.FirstSeq-t.base)
	}
	t.welcome(p, h)
	t.serve(p, uint64(t.messages))
}

func writerWelcomed(t *writerTest) {
	p, h := t.acceptSession()
	t.welcome(p, h)
	t.read(p, 50)
	p.close()
	t.handled = 50
	p, h = t.acceptSession()
	t.welcome(p, h)
	t.serve(p, uint64(t.messages))
}

func writerCutsIn(t *writerTest) {
	hello := len(newHello().Append(nil))
	for cut := range hello + 30 {
		p := t.accept()
		if cut > hello {
			t.welcome(p, t.readHello(p))
			p.discard(cut - hello)
		} else {
			p.discard(cut)
		}
		p.close()
		t.oneMore()
	}
}

func writerCutsOut(t *writerTest) {
	for cut := 0; ; cut++ {
		p, h := t.acceptSession()
		handled := max(t.handled, h.FirstSeq-1-t.base)
		words := wire.Welcome{Handled: t.base + handled, Limit: 10 << 20}.Append(nil)
		welcome := len(words)
		words = append(words, wire.AppendPrefix(nil, int(t.base+handled+1))...)
		words = append(words, wire.AppendPrefix(nil, int(t.base+handled+2))...)
		p.write(words[:min(cut, welcome)])
		if cut >= welcome {
			p.sent = handled
			t.read(p, handled+2)
			p.write(words[welcome:cut])
			t.handled = handled + 2 // Whether the Writer has learned of it or not.
		}
		p.close()
		t.oneMore()
		if cut == len(words) {
			return
		}
	}
}

// badAck sends an acknowledgement that cannot be, after five messages. The Writer ends the connection and ignores
// it. An acknowledgement right before it may count or not.
func badAck(words string) func(*writerTest) {
	return func(t *writerTest) { writerBadAck(t, words) }
}

func writerBadAck(t *writerTest, words string) {
	p, h := t.acceptSession()
	t.welcome(p, h)
	t.read(p, 10)
	t.handled = 5 // At most that: 5 is the only one that can be.
	p.write(fromHex(words))
	t.drain(p)
	p.close()
	p, h = t.acceptSession()
	if h.FirstSeq > t.base+6 {
		failf("first is %d after an acknowledgement that cannot be", h.FirstSeq-t.base)
	}
	t.handled = h.FirstSeq - 1 - t.base
	t.welcome(p, h)
	t.serve(p, uint64(t.messages))
}
