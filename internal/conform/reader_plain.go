// SPDX-License-Identifier: Apache-2.0

package conform

// This file has the cases of plain frames.

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/udsipc/udsipc/internal/wire"
)

var plainCases = []readerCase{
	{"plain", "messages of all prefix sizes, in one write", plainSizes},
	{"plain", "frames that arrive byte by byte", plainBytes},
	{"plain", "a connection without a message", plainNothing},
	{"plain", "prefixes in a longer form", plainLongPrefixes},
	{"plain", "the end at every byte of three frames", plainEnds},
	{"plain", "a connection that is closed at every byte of three frames", plainCloses},
	{"plain", "twenty connections at once", plainMany},
}

var endCases = []readerCase{
	{"limits", "a message of exactly the limit", limitExact},
	{"limits", "a message over the limit", limitOver},
	{"limits", "lengths of 2^63 and 2^64-1", limitHuge},
	{"limits", "a length of 2^64, and prefixes of eleven bytes", limitMalformed},
	{"garbage", "another protocol, and random bytes", garbage},
}

func frames(messages ...[]byte) (b []byte) {
	for _, m := range messages {
		b = wire.AppendFrame(b, m)
	}
	return b
}

func plainSizes(t *readerTest) {
	var list [][]byte
	limit := t.limit()
	for _, size := range []int{0, 1, 2, 127, 128, 300, 16383, 16384, 70_000, 0} {
		if uint64(size) <= limit {
			list = append(list, bytes.Repeat([]byte("x"), size))
		}
	}
	p := t.dial()
	p.write(frames(list...))
	p.closeWrite()
	p.expectReport(wire.CloseOrderly, uint64(len(list))+1)
	t.expectMessages(list...)
}

func plainBytes(t *readerTest) {
	list := [][]byte{t.message(1, 5), nil, t.message(2, 200)}
	p := t.dial()
	for _, b := range frames(list...) {
		p.write([]byte{b})
	}
	p.closeWrite()
	p.expectReport(wire.CloseOrderly, 4)
	t.expectMessages(list...)
}

func plainNothing(t *readerTest) {
	p := t.dial()
	p.closeWrite()
	p.expectReport(wire.CloseOrderly, 1)
	t.stillServes()
}

func plainLongPrefixes(t *readerTest) {
	p := t.dial()
	p.write([]byte("\x85\x00hello\x80\x80\x00\x01a"))
	p.write([]byte("\x81\x80\x80\x80\x80\x80\x80\x80\x80\x00b"))
	p.closeWrite()
	p.expectReport(wire.CloseOrderly, 5)
	t.expectMessages([]byte("hello"), nil, []byte("a"), []byte("b"))
}

// eachCut calls visit for each part of the frames of three messages, with the number of whole ones in it.
func (t *readerTest) eachCut(visit func(part []byte, whole int)) {
	stream := frames(t.message(1, 5), nil, t.message(2, 130))
	for size := range len(stream) + 1 {
		whole, _ := wire.WholeFrames(stream[:size])
		visit(stream[:size], whole)
	}
}

func plainEnds(t *readerTest) {
	var want [][]byte
	list := [][]byte{t.message(1, 5), nil, t.message(2, 130)}
	t.eachCut(func(part []byte, whole int) {
		p := t.dial()
		p.write(part)
		p.closeWrite()
		p.expectReport(wire.CloseOrderly, uint64(whole)+1)
		p.close()
		want = append(want, list[:whole]...)
	})
	t.expectMessages(want...)
}

// A connection that is closed is no reason to lose what was sent over it.
func plainCloses(t *readerTest) {
	list := [][]byte{t.message(1, 5), nil, t.message(2, 130)}
	t.eachCut(func(part []byte, whole int) {
		p := t.dial()
		p.write(part)
		p.close()
		if t.handled != nil {
			t.expectMessages(list[:whole]...)
		}
	})
	t.stillServes()
}

func plainMany(t *readerTest) {
	const connections = 20
	var senders sync.WaitGroup
	want := map[string]bool{}
	peers := make([]*peer, connections)
	for i := range peers {
		peers[i] = t.dial()
		want[string(t.message(i, 20))] = true
	}
	for i, p := range peers {
		senders.Go(func() {
			for range 100 {
				_ = p.tryWrite(frames(t.message(i, 20))) // An error is one of the report.
			}
			p.closeWrite()
		})
	}
	senders.Wait()
	for _, p := range peers {
		p.expectReport(wire.CloseOrderly, 101)
	}
	if t.handled == nil {
		return
	}
	got, err := t.handled.take(connections*100, t.opt.Timeout)
	count := map[string]int{}
	for _, d := range got {
		count[d.start]++
		if !want[d.start] || count[d.start] > 100 {
			failf("%q was handled %d times", d.start, count[d.start])
		}
	}
	if err != nil {
		failf("%v", err)
	}
}

// limit returns the Reader's limit, which a report tells.
func (t *readerTest) limit() uint64 {
	p := t.dial()
	p.closeWrite()
	return p.report().Limit
}

// The largest limit for which a message of that size is sent.
const largestTried = 64 << 20

func limitExact(t *readerTest) {
	limit := t.limit()
	if limit > largestTried {
		skipf("the limit is %d bytes; one of up to %d is tried", limit, largestTried)
	}
	p, m := t.dial(), t.message(1, int(limit))
	p.write(frames(m, t.message(2, 10)))
	p.closeWrite()
	p.expectReport(wire.CloseOrderly, 3)
	t.expectMessages(m, t.message(2, 10))
}

// The reader may end its receiving side as soon as it has the length, so a write may fail.
func limitOver(t *readerTest) {
	limit := t.limit()
	p, first := t.dial(), t.message(1, 10)
	p.write(frames(first))
	_ = p.tryWrite(wire.AppendPrefix(nil, int(limit)+1))
	p.closeWrite()
	p.expectReport(wire.CloseTooLarge, 2)
	t.expectMessages(first)
	if limit > 16<<10 && t.network == "unix" || limit > 8<<20 {
		return // A kernel would not take all of it before the reader has closed.
	}
	last := t.message(2, 10)
	p = t.dial()
	p.write(frames(first, make([]byte, limit+1), last))
	p.closeWrite()
	p.expectReport(wire.CloseTooLarge, 3)
	t.expectMessages(first, last)
}

func limitHuge(t *readerTest) {
	for _, prefix := range []string{
		"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
	} {
		p, m := t.dial(), t.message(1, 10)
		p.write(append(frames(m), prefix+"abc"...))
		p.closeWrite()
		p.expectReport(wire.CloseTooLarge, 2)
		t.expectMessages(m)
	}
}

func limitMalformed(t *readerTest) {
	for _, prefix := range []string{
		"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02",
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x01x",
		"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
		"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00\x01x",
	} {
		p, m := t.dial(), t.message(1, 10)
		p.write(append(frames(m), prefix...))
		p.expectReport(wire.CloseMalformed, 2)
		t.expectMessages(m)
	}
}

// garbage sends what is no frame of this protocol. Random bytes may be frames, so only that the reader goes on is
// checked.
func garbage(t *readerTest) {
	p := t.dial()
	p.write([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")) // A TLS client.
	p.closeWrite()
	p.awaitEnd()
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		b := make([]byte, 1+random.IntN(500))
		for i := range b {
			b[i] = byte(random.Uint32()) | 0x80*byte(random.IntN(2))
		}
		p := t.dial()
		_ = p.tryWrite(b)
		p.closeWrite()
		p.awaitEnd()
	}
	if t.handled != nil {
		time.Sleep(100 * time.Millisecond) // What was handled of that is not known.
		t.handled.drop()
	}
	t.stillServes()
}
