// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the writer's end of a session: the greeting, after which messages may flow, and the
// acknowledgements that come back.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"syscall"
	"time"
)

// pokeAfter is how long a write may hang before an acknowledgement of its own messages interrupts it,
// so that they leave the queue.
const pokeAfter = 10 * time.Millisecond

const _ = uint64(minSilence/beatsPerSilence - pokeAfter) // An interrupted write costs no heartbeat, or does not compile.

// A backChannel is what comes from the reader of a session. greet reads it first, then watch.
type backChannel struct {
	acknowledge func(handled uint64) (early bool, err error)
	silence     time.Duration // The longest that the reader may say nothing; 0 for any.
	beat        time.Duration // How often the reader wants to hear something; 0 for never.
	progress    atomic.Bool   // Something was acknowledged.

	buf  [backSize]byte // buf[r:w] was read and is not parsed yet.
	r, w int
}

// backSize has room for whatever cannot be parsed before it is whole: a welcome, or a goodbye with
// its report.
const backSize = 1 + maxHeaderSize + maxGreeting

const _ = uint64(backSize - maxHeaderSize - maxGreeting) // No constant of type uint64 is negative.

// fillBack reads more, until the read deadline of the connection at most.
func (o *outbound) fillBack() error {
	b := o.back
	b.w = copy(b.buf[:], b.buf[b.r:b.w])
	b.r = 0
	if b.w == len(b.buf) {
		return fmt.Errorf("%w: %d bytes that mean nothing", errGreeting, b.w)
	}
	n, err := o.conn.Read(b.buf[b.w:])
	if b.w += n; n > 0 {
		return nil // An error will come again.
	}
	return err
}

// A greeter is what a greeting needs to know, and is told how it goes.
type greeter struct {
	// silence is the longest that the reader may say nothing, where the kernel does not tell of its end; 0 for any.
	silence time.Duration

	// acknowledge is called by watch. early means that the message may still be in a write.
	acknowledge func(handled uint64) (early bool, err error)

	patience time.Duration // After so long, waiting is called.
	waiting  func()
	giveUp   func() bool // Asked whenever the wait was interrupted.
}

// greet says hello and waits for the welcome. No message may be written before that.
func (o *outbound) greet(h hello, g greeter) (welcome, error) {
	o.back = &backChannel{acknowledge: g.acknowledge}
	if o.kind != unixSocket {
		h.silence, o.back.silence = g.silence, g.silence
	}
	if err := o.conn.SetWriteDeadline(time.Now().Add(o.timeout)); err != nil {
		return welcome{}, err
	}
	_, unsent := o.conn.Write(appendHello(nil, h))
	if unsent != nil && !endsConnection(unsent) {
		return welcome{}, unsent
	}
	patience := time.Now().Add(g.patience)
	heard := time.Now()
	for {
		w, size, err := o.back.welcome()
		if err != nil || size > 0 {
			o.back.beat = w.silence / beatsPerSilence
			return w, err
		}
		// The deadline comes before the question: whoever ends the wait changes the answer first,
		// then the deadline.
		if err := o.conn.SetReadDeadline(o.greetDeadline(patience, heard)); err != nil {
			return w, err
		}
		if g.giveUp() {
			return w, errStopped
		}
		err = o.fillBack()
		now := time.Now()
		switch {
		case err == nil:
			heard = now
		case !isTimeout(err):
			return w, o.back.unanswered(err)
		case unsent != nil:
			return w, o.back.unanswered(unsent) // The peer, which reads no more, has not said why.
		case o.back.silence > 0 && now.Sub(heard) >= o.back.silence:
			return w, o.silent()
		case !patience.IsZero() && !now.Before(patience):
			patience = time.Time{}
			g.waiting()
		}
	}
}

// greetDeadline is when the wait for the welcome is interrupted: to say that it takes long, or
// because the reader says nothing at all.
func (o *outbound) greetDeadline(patience, heard time.Time) time.Time {
	if o.back.silence == 0 {
		return patience
	}
	if silence := heard.Add(o.back.silence); patience.IsZero() || silence.Before(patience) {
		return silence
	}
	return patience
}

// welcome parses what has come so far. The reader may have sent heartbeats before the welcome, or
// end the connection instead.
func (b *backChannel) welcome() (w welcome, size int, err error) {
	for bytes.HasPrefix(b.buf[b.r:b.w], heartbeat) {
		b.r += len(heartbeat)
	}
	rest := b.buf[b.r:b.w]
	if bytes.HasPrefix(rest, goodbye) {
		report, size, err := parseReport(rest[len(goodbye):])
		if err == nil && size > 0 {
			err = fmt.Errorf("before the welcome: %w", endError(report.reason))
		}
		return w, 0, err
	}
	w, size, err = parseWelcome(rest)
	switch {
	case errors.Is(err, errVersion):
		return w, 0, fmt.Errorf("%w: %w", errAcksUnsupported, err)
	case err == nil && size > 0 && w.status != statusWelcome:
		return w, 0, fmt.Errorf("%w: the reader refuses the session: %v", errConnectionClosed, w.status)
	}
	b.r += size
	return w, size, err
}

// unanswered is the error of a connection that ended without a welcome. A reader that is killed at
// that moment looks the same as one that does not know what it was told.
func (b *backChannel) unanswered(err error) error {
	switch {
	case bytes.HasPrefix(b.buf[b.r:b.w], goodbye):
		return fmt.Errorf("before the welcome: %w", endError(endOrderly))
	case endsConnection(err):
		return fmt.Errorf("%w: no welcome: the reader does not support acknowledgements, or was killed: %w", errAcksUnsupported, err)
	}
	return err
}

// endsConnection reports whether err says that the peer has ended the connection.
func endsConnection(err error) bool {
	for _, end := range []error{io.EOF, io.ErrClosedPipe, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

func (o *outbound) silent() error {
	return fmt.Errorf("%w: nothing came for %v (WithPeerTimeout)", errPeerSilent, o.back.silence)
}

// listen is watch in a session: it hands acknowledgements to the queue. It returns why it ended.
func (o *outbound) listen(wake func()) error {
	for {
		if err := o.parseBack(wake); err != nil {
			return err
		}
		var deadline time.Time
		if o.back.silence > 0 {
			deadline = time.Now().Add(o.back.silence)
		}
		if err := o.conn.SetReadDeadline(deadline); err != nil {
			return err
		}
		if err := o.fillBack(); isTimeout(err) {
			return o.silent()
		} else if err != nil {
			return err
		}
	}
}

// parseBack deals with all that has come. Of several acknowledgements the last one counts.
func (o *outbound) parseBack(wake func()) error {
	b := o.back
	var last uint64
	for {
		handled, alive, size, err := parseBack(b.buf[b.r:b.w])
		if err != nil {
			return err
		}
		if size == 0 {
			break
		}
		b.r += size
		switch {
		case alive:
		case handled == 0:
			o.hearGoodbye(wake)
		case handled <= last:
			return fmt.Errorf("%w: message %d after message %d", errAcknowledgement, handled, last)
		default:
			last = handled
		}
	}
	if last == 0 {
		return nil
	}
	b.progress.Store(true)
	early, err := b.acknowledge(last)
	if early {
		o.poke()
	}
	return err
}

// poke interrupts a write that hangs.
func (o *outbound) poke() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.resumable() && time.Since(o.armed) >= pokeAfter {
		o.poked.Store(true)
		_ = o.conn.SetWriteDeadline(aLongTimeAgo)
	}
}

// sayAlive writes a heartbeat. The caller is at a frame boundary.
func (o *outbound) sayAlive() error {
	if err := o.arm(time.Now()); err != nil {
		return err
	}
	_, err := o.conn.Write(heartbeat)
	if err != nil && !o.leaving.Load() {
		_ = o.conn.Close() // Half a heartbeat may be on its way.
	}
	return err
}
