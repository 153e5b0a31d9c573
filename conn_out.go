// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what a sender asks of a connection and tells it.

import (
	"fmt"
	"time"
)

// isLeaving reports whether nothing more should be written: the peer is going away, or gone. Any goroutine may ask.
func (o *outbound) isLeaving() bool { return o.leaving.Load() }

// isSession reports whether the peer acknowledges.
func (o *outbound) isSession() bool { return o.back != nil }

// heartbeatInterval is how often the reader of a session wants to hear something; 0 for never.
func (o *outbound) heartbeatInterval() time.Duration { return o.back.beat }

// written returns how many bytes the kernel has taken. Any goroutine may ask.
func (o *outbound) written() int64 { return o.bytes.Load() }

// wroteMessages reports whether a message was written to its last byte.
func (o *outbound) wroteMessages() bool { return o.messages > 0 }

// markProgress notes that a message is acknowledged, so that the connection was of use.
func (o *outbound) markProgress() { o.back.progress.Store(true) }

// allRead reports whether the peer has read everything, where the kernel knows, and notes it: once the peer has closed its
// end, nobody could tell.
func (o *outbound) allRead() bool {
	if !o.consumed(o.bytes.Load()) {
		return false
	}
	o.settled = o.messages
	return true
}

// afterTimeout reports whether the connection goes on after a write that took n bytes failed with err, and if so, whether
// the peer has made it wait for the timeout.
func (o *outbound) afterTimeout(n int, err error) (waited bool, _ error) {
	switch {
	case !isTimeout(err) || !o.resumable():
		return false, err
	case o.poked.Swap(false):
		return false, nil
	case n == 0 && time.Since(o.armed) < min(o.timeout, atOnce):
		return false, fmt.Errorf("%w: a write fails by a timeout before its time: %v", errConnectionClosed, err) // And so will all.
	}
	return true, nil
}

// force ends the connection at once, and notes whether everything had arrived then. Any goroutine may call it.
func (o *outbound) force() {
	if written := o.bytes.Load(); o.arrived() {
		o.forced.Store(written)
	}
	o.leave()
	closeNow(o.conn)
}

// closeNow closes the connection without an end of TLS. Any goroutine may call it.
func (o *outbound) closeNow() { closeNow(o.conn) }

// close closes the connection.
func (o *outbound) close() { _ = o.conn.Close() }

// watched waits until watch has returned.
func (o *outbound) watched() { <-o.ended }

// interruptGreeting has greet ask whether to give up. Any goroutine may call it.
func (o *outbound) interruptGreeting() { _ = o.conn.SetReadDeadline(aLongTimeAgo) }
