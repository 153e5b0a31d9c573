// SPDX-License-Identifier: Apache-2.0

package conform

// This file has the cases of a Writer in plain mode.

import (
	"github.com/udsipc/udsipc/internal/wire"
)

var plainWriterCases = []writerCase{
	{"plain", "a reader that ends connections, with the report", func(t *writerTest) { plainEndings(t, true) }, 0},
	{"plain", "a reader that ends connections without a word", func(t *writerTest) { plainEndings(t, false) }, 0},
	{"plain", "a reader that ends connections within a message of 5,000 bytes", plainParts, 5000},
}

// largestPart is more than any part of the stream after which a case ends a connection.
const largestPart = 1 << 30

// servePlain reads so many bytes, or all for -1, and ends the connection as a reader does: it handles all that the
// kernel has accepted. The writer goes on with the first message of which it has not accepted the last byte.
func (t *writerTest) servePlain(p *peer, size int, report bool) {
	if size < 0 {
		size = largestPart
	}
	p.sent = t.handled
	goodbye := []byte{0} // Still to be sent.
	for read := len(p.in); p.ended == nil && read < size; {
		before := len(p.in)
		if !p.more(t.opt.Timeout) && p.ended == nil {
			failf("nothing came within %v after message %d", t.opt.Timeout, p.sent)
		}
		read += len(p.in) - before
		for t.take(p) {
		}
	}
	if p.ended == nil {
		half, ok := p.conn.(interface{ CloseRead() error })
		if t.network != "unix" || !ok || half.CloseRead() != nil {
			_ = p.tryWrite(wire.Goodbye)
			goodbye = nil
		}
		t.drain(p)
	}
	first := t.handled
	t.handled = p.sent
	if !report {
		p.close()
		return
	}
	_ = p.tryWrite(wire.CloseReport{FirstUnread: p.sent - first + 1, Limit: 10 << 20}.Append(goodbye))
	p.close()
}

// plainParts ends connections while the kernel has a part of a message, which does not count.
func plainParts(t *writerTest) {
	for size := 10_000; t.handled < uint64(t.messages)/2; size += 12_345 {
		t.servePlain(t.accept(), size, true)
	}
}

func plainEndings(t *writerTest, report bool) {
	if !report && t.network != "unix" {
		skipf("over %s the goodbye asks the writer to stop", t.network)
	}
	t.mayReport = !report // A peer that ends connections again and again without a word may be no reader.
	for _, size := range []int{1, 2, 3, 100, 1000, 30_000} {
		if t.handled < uint64(t.messages) {
			t.servePlain(t.accept(), size, report)
		}
	}
}
