// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the sending direction of one connection: the vectored write, and the goroutine that
// watches the back channel. conn_verdict.go is the end: what the peer may not have read.

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	probeInterval = 10 * time.Millisecond // How often a busy connection asks whether all was read.
	provenAfter   = 10 * time.Millisecond // A connection that lived shorter proves little.
	trustedAfter  = time.Second           // One that lived so long proves enough.
	atOnce        = 10 * time.Millisecond // A write that times out sooner, of its own accord, has not waited at all.
)

// An outbound connection belongs to the drain goroutine, but for what is marked otherwise. Exactly
// one other goroutine, watch, reads from it.
type outbound struct {
	conn    net.Conn
	kind    connKind
	raw     syscall.RawConn // nil for otherConn.
	under   syscall.RawConn // Of the socket beneath TLS; nil without one.
	timeout time.Duration   // Of one write.
	vector  net.Buffers     // What WriteTo consumes; a field, so that it is not allocated.
	began   time.Time
	back    *backChannel // nil without a session.

	// What went out. bytes is read by Flush as well.
	bytes    atomic.Int64
	messages uint64 // Completed on this connection.

	// What the peer has read for certain. Unread bytes are within the last window ones, so all that
	// lies before the older of two marks, which are a window apart, was read.
	settled      uint64 // Messages.
	window       int64  // 0: not known.
	older, newer mark
	probed       time.Time

	// Writes that cannot have a deadline, because they speak TLS.
	waits   *time.Timer // Tells of one that waits; nil without TLS.
	writing atomic.Bool

	// The end of it.
	cut     bool          // A write was refused after a part of it was taken.
	mu      sync.Mutex    // Guards the write deadline against leaving.
	armed   time.Time     // When the write deadline was set.
	poked   atomic.Bool   // It was then set to the past, to interrupt a write.
	said    atomic.Bool   // The peer said goodbye.
	leaving atomic.Bool   // Nothing more should be written: the peer is going away, or gone.
	last    lastWords     // What the peer said, without a session. Written by watch alone.
	forced  atomic.Int64  // How many bytes had been written, and had arrived, when the Writer was told not to wait; else 0.
	ended   chan struct{} // Closed by watch; cause and last are set before.
	cause   error
}

// A mark is how far a connection was.
type mark struct {
	bytes    int64
	messages uint64
}

// newOutbound takes over conn.
func newOutbound(conn net.Conn, timeout time.Duration) *outbound {
	o := &outbound{conn: conn, timeout: timeout, began: time.Now(), ended: make(chan struct{})}
	o.kind, o.raw = inspect(conn)
	if o.raw == nil {
		_, o.under = inspect(beneath(conn))
	}
	if o.kind == unixSocket {
		// The kernel lets a write in as long as the sum is below the limit, and prices each piece
		// above its bytes; one piece is at most half of the buffer (unix_stream_sendmsg).
		size := int64(sendBufferSize(o.raw))
		o.window = size + size/2
	}
	return o
}

// watch reads the back channel until the connection ends, then calls wake. The Writer starts it and
// waits for it through ended.
func (o *outbound) watch(wake func()) {
	defer wake()
	defer close(o.ended)
	defer o.leave()
	if o.back != nil {
		o.cause = o.listen(wake)
		return
	}
	for o.cause == nil {
		var n int
		n, o.cause = o.conn.Read(o.last.space())
		if o.last.add(n) {
			o.hearGoodbye(wake)
		}
	}
}

// hearGoodbye has the drain goroutine close the sending side. A write that is under way is interrupted,
// but not one of TLS, which could not even say that it ends after that; the peer reads on for it.
func (o *outbound) hearGoodbye(wake func()) {
	o.said.Store(true)
	if o.secure() {
		o.leaving.Store(true)
	} else {
		o.leave()
	}
	wake()
}

// secure says whether the connection speaks TLS.
func (o *outbound) secure() bool {
	_, ok := o.conn.(*tls.Conn)
	return ok
}

// leave lets a write that is under way return.
func (o *outbound) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.leaving.Store(true)
	_ = o.conn.SetWriteDeadline(aLongTimeAgo)
}

// arm sets the deadline of one write, unless the connection is being left.
func (o *outbound) arm(now time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.leaving.Load() {
		return errEnded
	}
	o.armed = now
	if o.secure() {
		return o.conn.SetWriteDeadline(time.Time{}) // A TLS connection is corrupt after a timeout: it waits.
	}
	return o.conn.SetWriteDeadline(now.Add(o.timeout))
}

// write hands bufs to the kernel and returns how many bytes it took, whatever the error. After a
// timeout the rest may be written to the same connection if resumable says so.
func (o *outbound) write(bufs [][]byte) (int, error) {
	now := time.Now()
	o.probe(now)
	if err := o.arm(now); err != nil {
		return 0, err
	}
	if o.waits != nil {
		o.writing.Store(true)
		o.waits.Reset(o.timeout)
	}
	o.vector = bufs
	n, err := o.vector.WriteTo(o.conn)
	if o.waits != nil {
		o.writing.Store(false)
		o.waits.Stop()
	}
	o.bytes.Add(n)
	o.cut = n > 0 && errors.Is(err, syscall.EPIPE)
	return int(n), err
}

// onWait has tell called whenever a write has waited for its timeout again, if the connection speaks TLS. The others
// return from their write.
func (o *outbound) onWait(tell func()) {
	if !o.secure() {
		return
	}
	o.waits = time.AfterFunc(time.Hour, func() {
		o.mu.Lock()
		waited := time.Since(o.armed)
		o.mu.Unlock()
		if !o.writing.Load() {
			return
		}
		if waited >= o.timeout { // Else it is the write after the one that the timer was set for.
			tell()
		}
		o.waits.Reset(o.timeout)
	})
	o.waits.Stop()
}

// resumable says whether the connection goes on after a write timed out. A TLS connection is corrupt
// then (crypto/tls, Conn.SetWriteDeadline).
func (o *outbound) resumable() bool { return !o.secure() && !o.leaving.Load() }

// completed notes that so many messages are with the kernel to their last byte.
func (o *outbound) completed(messages int) {
	o.messages += uint64(messages)
	if bytes := o.bytes.Load(); o.window > 0 && bytes-o.newer.bytes > o.window {
		o.older, o.newer = o.newer, mark{bytes: bytes, messages: o.messages}
		o.settled = max(o.settled, o.older.messages)
	}
}

// probe asks the kernel now and then whether the peer has read everything.
func (o *outbound) probe(now time.Time) {
	if o.kind != unixSocket || o.back != nil || o.settled == o.messages || now.Sub(o.probed) < probeInterval {
		return
	}
	o.probed = now
	o.settle()
}

// settle says whether the peer has read everything for certain.
func (o *outbound) settle() bool {
	if o.kind == unixSocket {
		if bytes, ok := unread(o.raw); ok && bytes == 0 && !hungUp(o.raw) {
			o.settled = o.messages
		}
	}
	return o.settled == o.messages
}

// consumed says whether the peer has read the first bytes that were written; on TCP, whether its
// kernel has them. Where the kernel cannot tell, to have written them must do. It says no of a
// connection that is at its end: what was unread is gone with it, and finish will tell. Any goroutine
// may ask.
func (o *outbound) consumed(first int64) bool {
	if o.leaving.Load() {
		return false
	}
	if o.raw == nil || !canTellUnread {
		return true
	}
	written := o.bytes.Load() // Before unread, so that a write in between makes it careful, not wrong.
	bytes, ok := unread(o.raw)
	return ok && (bytes == 0 || written-int64(bytes) >= first) && !hungUp(o.raw)
}

// arrived says whether the kernels know that everything is where a forced Stop may leave it: read by the peer on a Unix
// socket, with the peer's kernel over TCP, also beneath TLS. Of a connection of unknown kind that can be asked for its end nothing is
// known; any other has nothing but what was written.
func (o *outbound) arrived() bool {
	if !o.consumed(o.bytes.Load()) {
		return false
	}
	if o.under != nil && canTellUnread {
		bytes, ok := unread(o.under)
		return ok && bytes == 0
	}
	_, half := o.conn.(interface{ CloseWrite() error })
	return o.raw != nil || !half
}

// failures returns how many connections in a row have failed, for the backoff, when so many had
// before this one. None, if a message was read or the connection lived for long; in a session, if one was
// acknowledged. One that lived for a moment only counts as the first failure all the same, so that a
// reader that is full and sends its writers away is not called all the time.
func (o *outbound) failures(before int) int {
	lived := time.Since(o.began)
	proven := o.settled > 0
	if o.back != nil {
		proven = o.back.progress.Load()
	}
	switch {
	case o.back == nil && lived >= trustedAfter, proven && lived >= provenAfter:
		return 0
	case proven:
		return 1
	}
	return before + 1
}
