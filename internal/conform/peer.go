// SPDX-License-Identifier: Apache-2.0

package conform

// This file is one connection to the implementation under test. Each step that fails ends the case.

import (
	"bytes"
	"errors"
	"io"
	"net"
	"time"

	"github.com/udsipc/udsipc/internal/wire"
)

// A peer is this program's end of a connection.
type peer struct {
	conn    net.Conn
	timeout time.Duration
	in      []byte // Read, and not parsed.
	ended   error  // Why nothing more can be read.

	sent  uint64 // The newest message that was sent completely on this connection.
	acked uint64 // The newest acknowledgement, or what the welcome tells.

	parted, late bool // The goodbye has come, and an acknowledgement after it.
}

func (p *peer) close() { _ = p.conn.Close() }

// write writes bytes, all of which the other side must take.
func (p *peer) write(b []byte) {
	if err := p.tryWrite(b); err != nil {
		failf("writing %d bytes: %v", len(b), err)
	}
}

func (p *peer) tryWrite(b []byte) error {
	_ = p.conn.SetWriteDeadline(time.Now().Add(p.timeout))
	_, err := p.conn.Write(b)
	return err
}

// closeWrite ends this side.
func (p *peer) closeWrite() {
	if half, ok := p.conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// more reads more bytes, for at most that time. It returns false if none came.
func (p *peer) more(wait time.Duration) bool {
	if p.ended != nil {
		return false
	}
	b := make([]byte, 64<<10)
	_ = p.conn.SetReadDeadline(time.Now().Add(wait))
	n, err := p.conn.Read(b)
	p.in = append(p.in, b[:n]...)
	var timeout net.Error
	if err != nil && (!errors.As(err, &timeout) || !timeout.Timeout()) {
		p.ended = err
	}
	return n > 0
}

// awaitEnd reads until the other side has closed, and returns all bytes since the last parsed one.
func (p *peer) awaitEnd() []byte {
	deadline := time.Now().Add(p.timeout)
	for p.ended == nil {
		if time.Now().After(deadline) {
			failf("it does not close the connection within %v", p.timeout)
		}
		p.more(time.Until(deadline))
	}
	return p.in
}

// awaitClean is awaitEnd for an end without a reset.
func (p *peer) awaitClean() []byte {
	b := p.awaitEnd()
	if !errors.Is(p.ended, io.EOF) {
		failf("the connection ended with %v, want end of file", p.ended)
	}
	return b
}

// report reads the goodbye and the report, after which the other side closes.
func (p *peer) report() wire.CloseReport {
	b := p.awaitEnd()
	if !bytes.HasPrefix(b, wire.Goodbye) {
		failf("it closes with the bytes % x, want the goodbye and the report", b)
	}
	r, size, err := wire.ParseCloseReport(b[len(wire.Goodbye):])
	if err != nil || size == 0 || 1+size != len(b) {
		failf("% x are no goodbye with a report", b)
	}
	return r
}

// hello sends a hello and waits for the welcome.
func (p *peer) hello(h wire.Hello) wire.Welcome {
	p.write(h.Append(nil))
	w := p.welcome()
	if w.Handled+1 < h.FirstSeq {
		failf("the welcome has handled %d, which is before first-1 = %d", w.Handled, h.FirstSeq-1)
	}
	p.sent, p.acked = w.Handled, w.Handled
	return w
}

// welcome waits for a welcome of status 0.
func (p *peer) welcome() wire.Welcome {
	w, err := p.reply()
	if err != nil {
		failf("no welcome: %v", err)
	}
	if w.Status != wire.StatusWelcome {
		failf("the welcome has status %d: %v", w.Status, w.Status)
	}
	return w
}

// reply waits for a welcome of any status.
func (p *peer) reply() (wire.Welcome, error) {
	deadline := time.Now().Add(p.timeout)
	for {
		for bytes.HasPrefix(p.in, wire.Heartbeat) {
			p.in = p.in[len(wire.Heartbeat):]
		}
		w, size, err := wire.ParseWelcome(p.in)
		if err != nil || size > 0 {
			p.in = p.in[size:]
			return w, err
		}
		if p.ended != nil || time.Now().After(deadline) {
			return w, errors.Join(errors.New("nothing but bytes that are no welcome"), p.ended)
		}
		p.more(time.Until(deadline))
	}
}

// parseAcks takes all acknowledgements that have come. It returns how many heartbeats were among them.
func (p *peer) parseAcks() (heartbeats int) {
	for {
		handled, alive, size, err := wire.ParseAck(p.in)
		switch {
		case err != nil:
			failf("after the welcome: %v", err)
		case size == 0:
			return heartbeats
		case alive:
			heartbeats++
		case handled == 0:
			if len(p.in) > size {
				p.parted = true
				break // Acknowledgements may follow the goodbye.
			}
			return heartbeats
		case handled <= p.acked:
			failf("it acknowledges %d after %d", handled, p.acked)
		case handled > p.sent:
			failf("it acknowledges message %d, and %d is the last that was sent completely", handled, p.sent)
		default:
			p.acked, p.late = handled, p.parted
		}
		p.in = p.in[size:]
	}
}

// awaitAck waits until a message is acknowledged.
func (p *peer) awaitAck(seq uint64) {
	deadline := time.Now().Add(p.timeout)
	for p.parseAcks(); p.acked < seq; p.parseAcks() {
		if p.ended != nil {
			failf("the connection ended (%v) with %d acknowledged, want %d", p.ended, p.acked, seq)
		}
		if time.Now().After(deadline) {
			failf("it has acknowledged %d within %v, want %d", p.acked, p.timeout, seq)
		}
		p.more(time.Until(deadline))
	}
}

// send sends messages of a session, as one write.
func (p *peer) send(messages ...[]byte) {
	var b []byte
	for _, m := range messages {
		b = wire.AppendFrame(b, m)
	}
	p.sent += uint64(len(messages))
	p.write(b)
}

// discard reads exactly so many bytes.
func (p *peer) discard(size int) {
	_ = p.conn.SetReadDeadline(time.Now().Add(p.timeout))
	if n, err := io.ReadFull(p.conn, make([]byte, size)); err != nil {
		failf("%d of %d bytes: %v", n, size, err)
	}
}
