// SPDX-License-Identifier: Apache-2.0

package conform

// This file runs the cases of a Reader.

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/udsipc/udsipc/internal/wire"
)

// Reader puts the Reader at an address through all cases and prints a table to w. The network is unix or tcp.
func Reader(ctx context.Context, w io.Writer, network, address string, opt Options) error {
	s := &suite{ctx: ctx, out: w, network: network, address: address, opt: opt.withDefaults()}
	t := &readerTest{suite: s}
	if s.opt.Handled != nil || len(s.opt.Command) > 0 {
		t.handled = newHandledLog()
	}
	if s.opt.Handled != nil {
		go t.handled.read(s.opt.Handled) // Ends with its input, or the program.
	}
	if len(s.opt.Command) > 0 {
		if err := t.start(); err != nil {
			return err
		}
		defer t.stop()
	}
	if err := t.awaitReader(); err != nil {
		return err
	}
	for _, c := range readerCases() {
		t.tag++
		s.row(c.group, c.name, func() { t.run(c.check) })
	}
	return s.result()
}

type readerCase struct {
	group, name string
	check       func(*readerTest)
}

func readerCases() (all []readerCase) {
	for _, list := range [][]readerCase{plainCases, endCases, sessionCases, reconnectCases, refusalCases, processCases} {
		all = append(all, list...)
	}
	return all
}

// A readerTest is a Reader under test.
type readerTest struct {
	*suite
	handled *handledLog // nil if it is not known what was handled.
	process *process    // nil if it was not started here.
	tag     int         // The number of the case, which is in its messages.
	peers   []*peer     // Of the case.
}

// run runs one case. What is handled after the case belongs to no other one.
func (t *readerTest) run(check func(*readerTest)) {
	done := false
	defer func() {
		for _, p := range t.peers {
			p.close()
		}
		t.peers = nil
		if !done && t.handled != nil {
			time.Sleep(50 * time.Millisecond) // Lines of a case that has failed are no fault of the next one.
			t.handled.drop()
		}
	}()
	check(t)
	done = true
}

// awaitReader waits until the Reader accepts connections.
func (t *readerTest) awaitReader() error {
	deadline := time.Now().Add(t.opt.Timeout)
	for {
		conn, err := net.Dial(t.network, t.address)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) || t.ctx.Err() != nil {
			return fmt.Errorf("nobody listens: %w", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (t *readerTest) dial() *peer {
	conn, err := net.DialTimeout(t.network, t.address, t.opt.Timeout)
	if err != nil {
		failf("the reader is gone: %v", err)
	}
	p := &peer{conn: conn, timeout: t.opt.Timeout}
	t.peers = append(t.peers, p)
	return p
}

// open opens a session.
func (t *readerTest) open(h wire.Hello) (*peer, wire.Welcome) {
	p := t.dial()
	return p, p.hello(h)
}

// message returns the n-th message of the case, of that size at least.
func (t *readerTest) message(n, size int) []byte {
	b := fmt.Appendf(nil, "%d.%d", t.tag, n)
	for i := 0; len(b) < size; i++ {
		b = append(b, "abcdefghijklmnopqrstuvwxyz "[i%27])
	}
	return b
}

// messages returns the messages from first to last.
func (t *readerTest) messages(first, last int) (list [][]byte) {
	for n := first; n <= last; n++ {
		list = append(list, t.message(n, 10+n%7))
	}
	return list
}

// expect checks what was handled, in this order and nothing else.
func (t *readerTest) expect(want ...delivery) {
	if t.handled == nil {
		return
	}
	list, err := t.handled.take(len(want), t.opt.Timeout)
	for i, d := range list {
		if i >= len(want) {
			failf("%d messages were handled, want %d; the next one is %.60q", len(list), len(want), d)
		}
		if !d.matches(want[i]) {
			failf("handled as number %d: %.60q, want %.60q", i+1, d, want[i])
		}
	}
	if err != nil {
		failf("%v", err)
	}
}

// expectMessages is expect for messages that are delivered for the first time.
func (t *readerTest) expectMessages(messages ...[]byte) {
	want := make([]delivery, len(messages))
	for i, m := range messages {
		want[i] = delivered(m, '-')
	}
	t.expect(want...)
}

// needHandled skips a case that only the list of handled messages can check.
func (t *readerTest) needHandled() {
	if t.handled == nil {
		skipf("it is not known what was handled: --handled, or a command")
	}
}

// stillServes checks that the Reader handles a message of another connection.
func (t *readerTest) stillServes() {
	p, m := t.dial(), t.message(9999, 12)
	p.write(wire.AppendFrame(nil, m))
	p.closeWrite()
	p.expectReport(wire.CloseOrderly, 2)
	t.expectMessages(m)
}

// expectReport checks the end of a plain connection: next counts only handled messages here.
func (p *peer) expectReport(reason wire.CloseReason, next uint64) {
	if r := p.report(); r.Reason != reason || r.FirstUnread-r.Skipped != next || r.Limit == 0 {
		failf("the report has reason %d, next %d, skipped %d, limit %d; want reason %d, next - skipped = %d",
			r.Reason, r.FirstUnread, r.Skipped, r.Limit, reason, next)
	}
}

// newHello returns the hello of a new writer.
func newHello() (h wire.Hello) {
	_, _ = rand.Read(h.Writer[:]) // It never fails.
	h.Epoch, h.FirstSeq = 1, 1
	return h
}

// again returns the hello of its next connection, for a writer that still holds the messages from first to sent.
func again(h wire.Hello, first, sent uint64) wire.Hello {
	h.Epoch++
	h.FirstSeq, h.LastSentSeq = first, sent
	return h
}
