// SPDX-License-Identifier: Apache-2.0

package conform

// This file has the cases of a writer that connects again: what it sends again, what it does not, and which of two
// connections counts.

import (
	"time"

	"github.com/udsipc/udsipc/internal/wire"
)

var reconnectCases = []readerCase{
	{"again", "a writer that connects again goes on after its last message", againGoesOn},
	{"again", "handled messages are not handled twice (acknowledgements lost)", againLostAcks},
	{"again", "a first that jumps, and one that is below handled", againFirst},
	{"again", "a cut after every byte of a session", againCuts},
	{"again", "a higher epoch ends the older connection", againFences},
	{"again", "an equal or lower epoch is refused, and changes nothing", againOldEpoch},
	{"again", "two writers have numbers of their own", againTwoWriters},
}

func againGoesOn(t *readerTest) {
	h := newHello()
	p, _ := t.open(h)
	p.send(t.messages(1, 10)...)
	p.awaitAck(10)
	p.closeWrite()
	p.awaitClean()
	p, w := t.open(again(h, 11, 10))
	if w.Handled != 10 {
		failf("handled is %d, want 10", w.Handled)
	}
	p.send(t.messages(11, 20)...)
	p.awaitAck(20)
	t.expectMessages(t.messages(1, 20)...)
}

// The writer does not read the acknowledgements: only the reader knows what it has handled.
func againLostAcks(t *readerTest) {
	h := newHello()
	p, _ := t.open(h)
	p.send(t.messages(1, 10)...)
	p.awaitAck(10)
	p.close()
	p, w := t.open(again(h, 1, 10))
	if w.Handled != 10 {
		failf("handled is %d: the reader has forgotten that it has handled 10 messages", w.Handled)
	}
	p.send(t.messages(11, 12)...)
	p.awaitAck(12)
	t.expectMessages(t.messages(1, 12)...)
}

func againFirst(t *readerTest) {
	h := newHello()
	h.FirstSeq, h.LastSentSeq = 5, 4
	p, w := t.open(h)
	if w.Handled != 4 {
		failf("handled is %d for first 5, want 4", w.Handled)
	}
	p.send(t.messages(5, 6)...)
	p.awaitAck(6)
	p.close()
	p, w = t.open(again(h, 100, 99))
	if w.Handled != 99 {
		failf("handled is %d for first 100, want 99", w.Handled)
	}
	p.send(t.message(100, 8))
	p.awaitAck(100)
	p.close()
	h.Epoch++
	p, w = t.open(again(h, 50, 100))
	if w.Handled != 100 {
		failf("handled is %d for first 50, and message 100 was handled", w.Handled)
	}
	p.send(t.message(101, 8))
	p.awaitAck(101)
	t.expectMessages(append(t.messages(5, 6), t.message(100, 8), t.message(101, 8))...)
}

// againCuts cuts the connection of a new writer after each byte, then goes on where the welcome of the next connection
// tells. What was cut off may have been handled or not, but never twice.
func againCuts(t *readerTest) {
	list := [][]byte{t.message(1, 5), nil, t.message(2, 130)}
	stream := frames(list...)
	hello := len(newHello().Append(nil))
	var want []delivery
	for cut := range hello + len(stream) + 1 {
		h := newHello()
		p, whole := t.dial(), 0
		if cut <= hello {
			p.write(h.Append(nil)[:cut])
		} else {
			p.hello(h)
			p.write(stream[:cut-hello])
			whole, _ = wire.WholeFrames(stream[:cut-hello])
		}
		p.close()
		p, w := t.open(again(h, 1, uint64(whole)))
		if w.Handled > uint64(whole) {
			failf("cut after %d bytes: handled is %d, and %d messages were sent", cut, w.Handled, whole)
		}
		p.send(list[w.Handled:]...)
		p.awaitAck(3)
		p.close()
		for _, m := range list {
			want = append(want, delivered(m, '?'))
		}
	}
	t.expect(want...)
}

func againFences(t *readerTest) {
	h := newHello()
	older, _ := t.open(h)
	older.send(t.messages(1, 3)...)
	older.awaitAck(3)
	h = again(h, 4, 3)
	newer, w := t.open(h)
	if w.Handled != 3 {
		failf("handled is %d, want 3", w.Handled)
	}
	_ = older.tryWrite(frames(t.message(77, 8))) // It does not count any more.
	older.awaitEnd()
	newer.send(t.messages(4, 5)...)
	newer.awaitAck(5)
	t.expectMessages(t.messages(1, 5)...)
	if t.handled == nil {
		return
	}
	// Fenced while a handler runs: the welcome waits for it.
	newer.send(slow(), t.message(88, 8))
	time.Sleep(quiet)
	last, w := t.open(again(h, 6, 7))
	if w.Handled == 5 {
		failf("the welcome came before the handler of message 6 had returned")
	}
	if w.Handled == 6 {
		last.send(t.message(88, 8))
		last.awaitAck(7)
	}
	t.expect(delivered(slow(), '-'), delivered(t.message(88, 8), '?'))
}

func againOldEpoch(t *readerTest) {
	h := newHello()
	h.Epoch = 5
	p, _ := t.open(h)
	for _, epoch := range []uint64{5, 4, 1} {
		old := h
		old.Epoch = epoch
		late := t.dial()
		late.write(old.Append(nil))
		if w, err := late.reply(); err != nil || w.Status != wire.StatusOldEpoch {
			failf("epoch %d after epoch 5: the welcome has status %d (%v), want 2", epoch, w.Status, err)
		}
		if b := late.awaitEnd(); len(b) > 0 {
			failf("% x after the welcome of status 2", b)
		}
	}
	p.send(t.messages(1, 2)...)
	p.awaitAck(2)
	t.expectMessages(t.messages(1, 2)...)
}

func againTwoWriters(t *readerTest) {
	first, _ := t.open(newHello())
	second, w := t.open(newHello())
	if w.Handled != 0 {
		failf("handled is %d, want 0", w.Handled)
	}
	for n := 1; n <= 5; n++ {
		first.send(t.message(n, 8))
		first.awaitAck(uint64(n))
		second.send(t.message(100+n, 8))
		second.awaitAck(uint64(n))
	}
	var want [][]byte
	for n := 1; n <= 5; n++ {
		want = append(want, t.message(n, 8), t.message(100+n, 8))
	}
	t.expectMessages(want...)
}
