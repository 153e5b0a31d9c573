// SPDX-License-Identifier: Apache-2.0

package transport

// This file computes how much the peer of a sending connection has read, as the kernel reports it.

import "time"

// probeInterval is the interval in which a busy connection asks the kernel.
const probeInterval = 10 * time.Millisecond

// recentBytes are the bytes of recent messages where the kernel does not bound the unread ones. A Reader
// that is killed has read no more than about that without handling it.
const recentBytes = 512 << 10

// readMarks are the messages that the peer has read for certain. Unread bytes are within the last
// maxUnread bytes. So all before the older of two checkpoints with that distance was read.
type readMarks struct {
	confirmed                      uint64     // Messages.
	maxUnread                      int64      // 0: not known.
	prevCheckpoint, lastCheckpoint checkpoint // Recent messages are those behind prevCheckpoint.
	lastProbe                      time.Time
}

// A checkpoint is a position in the stream.
type checkpoint struct {
	bytes    int64
	messages uint64
}

// advance records that bytes and messages were written.
func (r *readMarks) advance(bytes int64, messages uint64) {
	distance := r.maxUnread
	if distance == 0 {
		distance = recentBytes
	}
	if bytes-r.lastCheckpoint.bytes <= distance {
		return
	}
	r.prevCheckpoint, r.lastCheckpoint = r.lastCheckpoint, checkpoint{bytes: bytes, messages: messages}
	if r.maxUnread > 0 {
		r.confirmed = max(r.confirmed, r.prevCheckpoint.messages)
	}
}

// Completed records that the kernel has taken messages completely.
func (o *Out) Completed(messages int) {
	o.messages += uint64(messages)
	o.read.advance(o.bytes.Load(), o.messages)
}

// probe asks the kernel, at most once in probeInterval, whether the peer has read everything.
func (o *Out) probe(now time.Time) {
	if o.kind != unixSocket || o.back != nil || o.read.confirmed == o.messages ||
		now.Sub(o.read.lastProbe) < probeInterval {
		return
	}
	o.read.lastProbe = now
	o.confirmAllRead()
}

// confirmAllRead reports whether the peer has read all bytes for certain.
func (o *Out) confirmAllRead() bool {
	if o.kind == unixSocket {
		if bytes, ok := unread(o.raw); ok && bytes == 0 && !hungUp(o.raw) {
			o.read.confirmed = o.messages
		}
	}
	return o.read.confirmed == o.messages
}

// PeerHasRead reports whether the peer has read the first bytes of the stream; on TCP, whether its
// kernel has them. Where the kernel does not report that, written bytes count as read. It returns
// false for a connection that has ended: CloseAndAccount computes the outcome. Any goroutine may
// call it.
func (o *Out) PeerHasRead(first int64) bool {
	if o.writeStopped.Load() {
		return false
	}
	if o.raw == nil || !canTellUnread {
		return true
	}
	// Before unread: a write in between makes the result false, not wrong.
	written := o.bytes.Load()
	bytes, ok := unread(o.raw)
	return ok && (bytes == 0 || written-int64(bytes) >= first) && !hungUp(o.raw)
}

// allArrived reports whether everything is where a forced stop may leave it: read by the peer on a
// Unix socket, in the peer's kernel on TCP, also beneath TLS. A connection of unknown kind that can
// be half-closed returns false. Any other returns true, as nothing more can be known.
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
