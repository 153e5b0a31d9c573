// SPDX-License-Identifier: Apache-2.0

package conform

// This file has the cases of one session.

import (
	"encoding/hex"
	"math"
	"runtime"
	"strings"
	"time"

	"github.com/udsipc/udsipc/internal/wire"
)

var sessionCases = []readerCase{
	{"session", "the welcome of a new writer", sessionWelcome},
	{"session", "messages, acknowledgements, the end", sessionMessages},
	{"session", "preface, hello and frames that arrive byte by byte", sessionBytes},
	{"session", "empty messages, and heartbeats between messages", sessionEmpty},
	{"session", "an incomplete message is not acknowledged", ackIncomplete},
	{"session", "a message is not acknowledged before its handler returns", ackEarly},
	{"session", "5,000 messages", sessionMany},
	{"session", "numbers up to 2^63-1", sessionNumbers},
	{"session", "messages that may be handled already are marked", sessionMarked},
	{"session", "heartbeats for a writer that asks for them", sessionHeartbeats},
	{"session", "a heartbeat timeout of 1 ms counts as 100 ms", sessionShortHeartbeats},
	{"session", "a message over the limit ends the connection", sessionTooLarge},
	{"session", "a length of 2^64 ends the connection", sessionMalformed},
}

func sessionWelcome(t *readerTest) {
	p, w := t.open(newHello())
	if w.Handled != 0 {
		failf("the welcome of a new writer has handled %d, want 0", w.Handled)
	}
	p.closeWrite()
	p.awaitClean()
}

func sessionMessages(t *readerTest) {
	p, _ := t.open(newHello())
	for n := 1; n <= 10; n++ {
		p.send(t.message(n, n))
		p.awaitAck(uint64(n))
	}
	p.send(t.messages(11, 30)...)
	p.closeWrite()
	p.awaitClean()
	p.awaitAck(30)
	if p.late && t.network == "unix" && runtime.GOOS == "linux" {
		failf("the last acknowledgement follows the goodbye: on this socket it comes before")
	}
	for n := 1; n <= 10; n++ {
		t.expectLater(t.message(n, n))
	}
	t.expectMessages(t.messages(11, 30)...)
}

// expectLater is expectMessages for messages that others may follow.
func (t *readerTest) expectLater(m []byte) {
	if t.handled == nil {
		return
	}
	list, err := t.handled.take(1, t.opt.Timeout)
	if err != nil {
		failf("%v", err)
	}
	if !list[0].matches(delivered(m, '-')) {
		failf("handled: %.60q, want %.60q", list[0], delivered(m, '-'))
	}
	t.handled.putBack(list[1:])
}

func sessionBytes(t *readerTest) {
	p, h := t.dial(), newHello()
	for _, b := range h.Append(nil) {
		p.write([]byte{b})
	}
	p.welcome()
	p.sent = 2
	for _, b := range frames(t.message(1, 5), t.message(2, 200)) {
		p.write([]byte{b})
	}
	p.awaitAck(2)
	t.expectMessages(t.message(1, 5), t.message(2, 200))
}

func sessionEmpty(t *readerTest) {
	p, _ := t.open(newHello())
	p.write([]byte("\x80\x00\x80\x00"))
	p.send(t.message(1, 5), nil)
	p.write([]byte("\x80"))
	p.awaitAck(2)
	p.write([]byte("\x00"))
	p.send(nil, t.message(2, 5))
	p.awaitAck(4)
	t.expectMessages(t.message(1, 5), nil, nil, t.message(2, 5))
}

// quiet is how long a case waits for what must not come.
const quiet = 100 * time.Millisecond

func ackIncomplete(t *readerTest) {
	p, _ := t.open(newHello())
	last := frames(t.message(2, 300))
	p.send(t.message(1, 5))
	for _, part := range [][]byte{last[:1], last[1:2], last[2 : len(last)-1]} {
		p.write(part)
		p.awaitAck(1)
		p.more(quiet)
		p.parseAcks() // Fails for message 2, which was not sent completely.
	}
	p.sent++
	p.write(last[len(last)-1:])
	p.awaitAck(2)
	t.expectMessages(t.message(1, 5), t.message(2, 300))
}

// handlerTime is how long a handler is asked to take.
const handlerTime = 300 * time.Millisecond

// slow is a message whose handler takes handlerTime.
func slow() []byte { return []byte("sleep 300") }

func ackEarly(t *readerTest) {
	t.needHandled()
	p, _ := t.open(newHello())
	start := time.Now()
	p.send(slow())
	p.awaitAck(1)
	if took := time.Since(start); took < handlerTime {
		failf("acknowledged after %v, and the handler takes %v", took.Round(time.Millisecond), handlerTime)
	}
	t.expectMessages(slow())
}

func sessionMany(t *readerTest) {
	p, _ := t.open(newHello())
	done := make(chan struct{})
	list := t.messages(1, 5000)
	p.sent = uint64(len(list))
	go func() {
		defer close(done)
		_ = p.tryWrite(frames(list...)) // An error is one of the acknowledgements.
	}()
	p.awaitAck(uint64(len(list)))
	<-done
	t.expectMessages(list...)
}

func sessionNumbers(t *readerTest) {
	h := newHello()
	h.Epoch, h.FirstSeq, h.LastSentSeq = math.MaxInt64, math.MaxInt64-1, math.MaxInt64-2
	p, w := t.open(h)
	if w.Handled != math.MaxInt64-2 {
		failf("handled is %d, want first-1 = %d", w.Handled, uint64(math.MaxInt64-2))
	}
	p.send(t.messages(1, 2)...)
	p.awaitAck(math.MaxInt64)
	t.expectMessages(t.messages(1, 2)...)
}

func sessionMarked(t *readerTest) {
	t.needHandled()
	h := newHello()
	h.FirstSeq, h.LastSentSeq = 3, 5
	p, _ := t.open(h)
	p.send(t.messages(3, 7)...)
	p.awaitAck(7)
	var want []delivery
	for n, m := range t.messages(3, 7) {
		want = append(want, delivered(m, "rrr--"[n]))
	}
	t.expect(want...)
}

// The writer asks for heartbeats within 600 ms, of which three are due.
func sessionHeartbeats(t *readerTest) {
	h := newHello()
	h.HeartbeatTimeout = 600 * time.Millisecond
	p, _ := t.open(h)
	count := 0
	for end := time.Now().Add(2 * h.HeartbeatTimeout); time.Now().Before(end); count += p.parseAcks() {
		if !p.more(h.HeartbeatTimeout) {
			failf("nothing came for the heartbeat timeout of %v (%v)", h.HeartbeatTimeout, p.ended)
		}
	}
	if count < 2 {
		failf("%d heartbeats in twice the heartbeat timeout of %v", count, h.HeartbeatTimeout)
	}
}

// In 500 ms 15 heartbeats are due; a reader that takes the timeout as it is sends hundreds.
func sessionShortHeartbeats(t *readerTest) {
	h := newHello()
	h.HeartbeatTimeout = time.Millisecond
	p, _ := t.open(h)
	count := 0
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); count += p.parseAcks() {
		if !p.more(t.opt.Timeout) {
			failf("no heartbeats (%v)", p.ended)
		}
	}
	if count > 100 {
		failf("%d heartbeats in 500 ms for a writer that asks for a timeout of 1 ms, which counts as 100 ms", count)
	}
}

func sessionTooLarge(t *readerTest) {
	h := newHello()
	p, w := t.open(h)
	p.send(t.message(1, 5))
	p.awaitAck(1)
	_ = p.tryWrite(wire.AppendPrefix(nil, int(w.Limit)+1))
	p.awaitEnd()
	p, w = t.open(again(h, 2, 1))
	if w.Handled != 1 {
		failf("handled is %d after it, want 1", w.Handled)
	}
	p.send(t.message(2, 5))
	p.awaitAck(2)
	t.expectMessages(t.message(1, 5), t.message(2, 5))
}

func sessionMalformed(t *readerTest) {
	h := newHello()
	p, _ := t.open(h)
	p.send(t.message(1, 5))
	p.awaitAck(1)
	p.write([]byte("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02"))
	p.awaitEnd()
	p, _ = t.open(again(h, 2, 1))
	p.send(t.message(2, 5))
	p.awaitAck(2)
	t.expectMessages(t.message(1, 5), t.message(2, 5))
}

// fromHex decodes a test vector of the document.
func fromHex(text string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}
