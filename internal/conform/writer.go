// SPDX-License-Identifier: Apache-2.0

package conform

// This file runs the cases of a Writer. Each case is one run of the program under test, which sends the numbers from 1
// to Options.Messages, one in a message.

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/udsipc/udsipc/internal/wire"
)

// Writer listens at an address, puts a Writer through all cases that its mode has, and prints a table to w.
func Writer(ctx context.Context, w io.Writer, network, address string, opt Options) error {
	listener, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	defer listener.Close()
	s := &suite{ctx: ctx, out: w, network: network, address: listener.Addr().String(), opt: opt.withDefaults()}
	t := &writerTest{suite: s, listener: listener.(deadlineListener)}
	stop := context.AfterFunc(ctx, func() { _ = t.listener.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	cases := []writerCase{{group: "first", name: "all messages arrive, once and in order", check: writerAll}}
	for i := 0; i < len(cases); i++ {
		before := s.failed
		s.row(cases[i].group, cases[i].name, func() { t.run(cases[i]) })
		if i == 0 && s.failed == 0 {
			cases = append(cases, map[bool][]writerCase{true: sessionWriterCases, false: plainWriterCases}[t.session]...)
		}
		if s.failed > before && len(opt.Command) == 0 {
			break // The rest of this run of the Writer would be taken for the next one.
		}
	}
	return s.result()
}

type deadlineListener interface {
	net.Listener
	SetDeadline(t time.Time) error
}

type writerCase struct {
	group, name string
	check       func(*writerTest)
	size        int // Messages are numbers that dots fill up to it; 0: the numbers alone.
}

// filledMessages is how many messages there are of a case with a size.
const filledMessages = 1000

// A writerTest is a Writer under test.
type writerTest struct {
	*suite
	listener deadlineListener
	session  bool // It opens sessions.
	wait     func() error

	// This run.
	messages  int  // How many there are.
	size      int  // That of the case.
	mayReport bool // The program may end with an error: it may have to report a possible loss.
	peers     []*peer
	last      *wire.Hello // The newest hello.
	base      uint64      // The sequence number before that of message 1.
	handled   uint64      // All messages up to this number are handled.
	seen      uint64      // The largest number that has come completely.
}

// run is one run of the Writer.
func (t *writerTest) run(c writerCase) {
	if t.messages, t.size = t.opt.Messages, c.size; c.size > 0 {
		t.messages = min(filledMessages, t.messages)
		if len(t.opt.Command) == 0 {
			skipf("its input is not that of the other cases: a command")
		}
	}
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	t.peers, t.last, t.base, t.handled, t.seen, t.wait, t.mayReport = nil, nil, 0, 0, 0, nil, false
	defer func() {
		for _, p := range t.peers {
			p.close()
		}
		cancel()
		if t.wait != nil {
			_ = t.wait()
		}
	}()
	if len(t.opt.Command) > 0 {
		lines, input := io.Pipe()
		messages := t.messages
		go func() { // Ends when the program has read all, or has ended.
			for n := 1; n <= messages; n++ {
				if _, err := fmt.Fprintf(input, "%s\n", t.text(n)); err != nil {
					return
				}
			}
			input.Close()
		}()
		defer lines.Close()
		wait, err := t.runWriter(ctx, lines)
		if err != nil {
			failf("%v", err)
		}
		t.wait = wait
	}
	c.check(t)
	t.finish()
}

// maxIdle is how many connections in a row may bring no message.
const maxIdle = 50

// text returns the n-th message.
func (t *writerTest) text(n int) string {
	number := strconv.Itoa(n)
	return number + strings.Repeat(".", max(0, t.size-len(number)))
}

// finish handles what is left, until the Writer has ended.
func (t *writerTest) finish() {
	for idle := 0; t.handled < uint64(t.messages); idle++ {
		if idle > maxIdle {
			failf("%d connections in a row brought no message after message %d", maxIdle, t.handled)
		}
		before := t.handled
		if t.session {
			p, h := t.acceptSession()
			t.welcome(p, h)
			t.serve(p, uint64(t.messages))
		} else {
			t.servePlain(t.accept(), -1, true)
		}
		if t.handled > before {
			idle = 0
		}
	}
	if t.wait != nil {
		t.awaitExit()
	}
}

// awaitExit waits until the program under test has ended, once all is handled.
func (t *writerTest) awaitExit() {
	wait, ended := t.wait, make(chan error, 1)
	go func() { ended <- wait() }() // Ends with the program, which the end of the run kills.
	t.wait = func() error { return <-ended }
	select {
	case err := <-ended:
		t.wait = nil
		if err != nil && !t.mayReport {
			failf("all %d messages were handled, and the program ended with %v", t.messages, err)
		}
	case <-time.After(t.opt.Timeout):
		failf("all %d messages were handled, and the program has not ended within %v", t.messages, t.opt.Timeout)
	}
}

// accept waits for the next connection.
func (t *writerTest) accept() *peer {
	_ = t.listener.SetDeadline(time.Now().Add(t.opt.Timeout))
	conn, err := t.listener.Accept()
	if err != nil {
		failf("no connection within %v, and %d of %d messages are handled: %v", t.opt.Timeout, t.handled,
			t.messages, err)
	}
	p := &peer{conn: conn, timeout: t.opt.Timeout}
	t.peers = append(t.peers, p)
	return p
}

// writerAll finds out which mode the Writer is in; finish does the rest.
func writerAll(t *writerTest) {
	p := t.accept()
	for len(p.in) < 1 && p.ended == nil {
		p.more(t.opt.Timeout)
	}
	t.session = len(p.in) > 0 && wire.HasPreface(p.in[:1])
	if t.session {
		t.welcome(p, t.readHello(p))
		t.serve(p, uint64(t.messages))
	} else {
		t.servePlain(p, -1, true)
	}
}

// take parses the next message that has come, and checks that it is the number after t.seen or after, in a session,
// what the welcome has told. ok is false if it is incomplete.
func (t *writerTest) take(p *peer) (ok bool) {
	length, size, err := wire.ParsePrefix(p.in)
	switch {
	case err != nil:
		failf("after message %d: %v", p.sent, err)
	case size == 0:
		return false
	case t.session && size == 2 && length == 0: // A heartbeat.
		p.in = p.in[size:]
		return t.take(p)
	case size > 1 && p.in[size-1] == 0:
		failf("after message %d: a length in a longer form, % x", p.sent, p.in[:size])
	case length > uint64(max(10, t.size)):
		failf("after message %d: a message of %d bytes, want the number %d", p.sent, length, p.sent+1)
	case uint64(len(p.in)-size) < length:
		return false
	}
	text := string(p.in[size : size+int(length)])
	if text != t.text(int(p.sent)+1) {
		failf("got the message %.20q of %d bytes, want %d", text, length, p.sent+1)
	}
	p.in = p.in[size+int(length):]
	p.sent++
	t.seen = max(t.seen, p.sent)
	return true
}

// read reads messages up to a number.
func (t *writerTest) read(p *peer, last uint64) {
	last = min(last, uint64(t.messages))
	deadline := time.Now().Add(t.opt.Timeout)
	for p.sent < last {
		if t.take(p) {
			deadline = time.Now().Add(t.opt.Timeout)
			continue
		}
		if p.ended != nil {
			failf("the connection ended (%v) after message %d, want %d", p.ended, p.sent, last)
		}
		t.moreUntil(p, deadline, last)
	}
}

// moreUntil reads more bytes. Heartbeats alone do not count as messages.
func (t *writerTest) moreUntil(p *peer, deadline time.Time, last uint64) {
	p.more(time.Until(deadline))
	if p.ended == nil && time.Now().After(deadline) {
		failf("no message within %v after message %d, want %d", t.opt.Timeout, p.sent, last)
	}
}

// drain reads until the Writer has ended its side. What is incomplete then does not count.
func (t *writerTest) drain(p *peer) {
	deadline := time.Now().Add(t.opt.Timeout)
	for {
		for t.take(p) {
		}
		if p.ended != nil {
			return
		}
		if time.Now().After(deadline) {
			failf("the writer does not end its side within %v", t.opt.Timeout)
		}
		p.more(time.Until(deadline))
	}
}
