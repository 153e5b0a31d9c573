// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is how much the peer of a sending connection has read for certain, as far as the kernel
// knows.

import "time"

// probeInterval is how often a busy connection asks whether everything was read.
const probeInterval = 10 * time.Millisecond

// readMarks are what the peer has read for certain. Unread bytes are within the last window ones,
// so all that lies before the older of two marks, which are a window apart, was read.
type readMarks struct {
	settled      uint64 // Messages.
	window       int64  // 0: not known.
	older, newer mark
	probed       time.Time
}

// A mark is how far a connection was.
type mark struct {
	bytes    int64
	messages uint64
}

// advance notes that so many bytes and messages were written.
func (r *readMarks) advance(bytes int64, messages uint64) {
	if r.window > 0 && bytes-r.newer.bytes > r.window {
		r.older, r.newer = r.newer, mark{bytes: bytes, messages: messages}
		r.settled = max(r.settled, r.older.messages)
	}
}

// completed notes that so many messages are with the kernel to their last byte.
func (o *outbound) completed(messages int) {
	o.messages += uint64(messages)
	o.read.advance(o.bytes.Load(), o.messages)
}

// probe asks the kernel now and then whether the peer has read everything.
func (o *outbound) probe(now time.Time) {
	if o.kind != unixSocket || o.back != nil || o.read.settled == o.messages || now.Sub(o.read.probed) < probeInterval {
		return
	}
	o.read.probed = now
	o.settle()
}

// settle says whether the peer has read everything for certain.
func (o *outbound) settle() bool {
	if o.kind == unixSocket {
		if bytes, ok := unread(o.raw); ok && bytes == 0 && !hungUp(o.raw) {
			o.read.settled = o.messages
		}
	}
	return o.read.settled == o.messages
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

// arrived says whether the kernels know that everything is where a forced Stop may leave it: read
// by the peer on a Unix socket, with the peer's kernel over TCP, also beneath TLS. Of a connection
// of unknown kind that can be asked for its end nothing is known; any other has nothing but what
// was written.
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

// allRead reports whether the peer has read everything, where the kernel knows, and notes it: once
// the peer has closed its end, nobody could tell.
func (o *outbound) allRead() bool {
	if !o.consumed(o.bytes.Load()) {
		return false
	}
	o.read.settled = o.messages
	return true
}
