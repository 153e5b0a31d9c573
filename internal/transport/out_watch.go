// SPDX-License-Identifier: Apache-2.0

package transport

// This file reads the input of a sending connection.

import "errors"

// errNotProtocol ends a connection whose peer has sent something else than a goodbye and a report.
var errNotProtocol = errors.New("the peer does not speak this protocol")

// ReadLoop reads until the connection ends, then calls wake. The sender starts it, and waits for it
// with WaitReadLoop.
func (o *Out) ReadLoop(wake func()) {
	defer wake()
	defer close(o.end.done)
	defer o.stopWriting()
	if o.back != nil {
		o.end.cause = o.readAcks(wake)
		return
	}
	for o.end.cause == nil {
		var n int
		n, o.end.cause = o.conn.Read(o.end.goodbye.free())
		if o.end.goodbye.add(n) {
			o.onGoodbye(wake)
		}
		if o.end.goodbye.notProtocol && o.end.cause == nil {
			o.end.cause = errNotProtocol // It may read everything and stay: nobody would be told.
		}
	}
}

// onGoodbye makes the send loop half-close the connection. It interrupts a write in progress. A
// write of TLS is not interrupted, because TLS could not send close_notify after that; the peer
// continues to read.
func (o *Out) onGoodbye(wake func()) {
	o.end.goodbyeReceived.Store(true)
	if o.isTLS() {
		o.writeStopped.Store(true)
	} else {
		o.stopWriting()
	}
	wake()
}

// stopWriting sets writeStopped and interrupts a write in progress.
func (o *Out) stopWriting() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writeStopped.Store(true)
	_ = o.conn.SetWriteDeadline(PastDeadline)
}
