// SPDX-License-Identifier: Apache-2.0

package transport

// This file is how much the peer of a sending connection has read for certain, as far as the kernel
// knows.

import "time"

// probeInterval is how often a busy connection asks whether everything was read.
const probeInterval = 10 * time.Millisecond

// readMarks are what the peer has read for certain. Unread bytes are within the last maxUnread ones.
// So all bytes before the older of two checkpoints, which are that far apart, were read.
type readMarks struct {
	confirmed                      uint64 // Messages.
	maxUnread                      int64  // 0: not known.
	prevCheckpoint, lastCheckpoint checkpoint
	lastProbe                      time.Time
}

// A checkpoint is how far a connection was.
type checkpoint struct {
	bytes    int64
	messages uint64
}

// advance notes that so many bytes and messages were written.
func (r *readMarks) advance(bytes int64, messages uint64) {
	if r.maxUnread > 0 && bytes-r.lastCheckpoint.bytes > r.maxUnread {
		r.prevCheckpoint, r.lastCheckpoint = r.lastCheckpoint, checkpoint{bytes: bytes, messages: messages}
		r.confirmed = max(r.confirmed, r.prevCheckpoint.messages)
	}
}

// Completed notes that so many messages are with the kernel to their last byte.
func (o *Out) Completed(messages int) {
	o.messages += uint64(messages)
	o.read.advance(o.bytes.Load(), o.messages)
}

// probe asks the kernel now and then whether the peer has read everything.
func (o *Out) probe(now time.Time) {
	if o.kind != unixSocket || o.back != nil || o.read.confirmed == o.messages || now.Sub(o.read.lastProbe) < probeInterval {
		return
	}
	o.read.lastProbe = now
	o.confirmAllRead()
}

// confirmAllRead says whether the peer has read everything for certain.
func (o *Out) confirmAllRead() bool {
	if o.kind == unixSocket {
		if bytes, ok := unread(o.raw); ok && bytes == 0 && !hungUp(o.raw) {
			o.read.confirmed = o.messages
		}
	}
	return o.read.confirmed == o.messages
}

// PeerHasRead says whether the peer has read the first bytes that were written; on TCP, whether its
// kernel has them. If the kernel cannot tell, written bytes count as read. It returns false for a
// connection at its end: unread bytes are gone with it, and CloseAndAccount counts them. Any goroutine
// may ask.
func (o *Out) PeerHasRead(first int64) bool {
	if o.writeStopped.Load() {
		return false
	}
	if o.raw == nil || !canTellUnread {
		return true
	}
	written := o.bytes.Load() // Before unread, so that a write in between makes it careful, not wrong.
	bytes, ok := unread(o.raw)
	return ok && (bytes == 0 || written-int64(bytes) >= first) && !hungUp(o.raw)
}

// allArrived says whether the kernels know that everything is where a forced Stop may leave it: read
// by the peer on a Unix socket, with the peer's kernel over TCP, also beneath TLS. Of a connection
// of unknown kind that can be asked for its end nothing is known; any other has nothing but what
// was written.
func (o *Out) allArrived() bool {
	if !o.PeerHasRead(o.bytes.Load()) {
		return false
	}
	if o.underlying != nil && canTellUnread {
		bytes, ok := unread(o.underlying)
		return ok && bytes == 0
	}
	_, half := o.conn.(interface{ CloseWrite() error })
	return o.raw != nil || !half
}

// AllRead reports whether the peer has read everything, where the kernel knows, and notes it: once
// the peer has closed its end, nobody could tell.
func (o *Out) AllRead() bool {
	if !o.PeerHasRead(o.bytes.Load()) {
		return false
	}
	o.read.confirmed = o.messages
	return true
}
