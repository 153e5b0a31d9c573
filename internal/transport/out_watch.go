// SPDX-License-Identifier: Apache-2.0

package transport

// This file reads what comes back on a sending connection.

// ReadLoop reads the back channel until the connection ends, then calls wake. The sender starts it in a
// goroutine and waits for it with WaitReadLoop.
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
	}
}

// onGoodbye has the send loop close the sending side. A write that is under way is
// interrupted, but not one of TLS, which could not even say that it ends after that; the peer reads
// on for it.
func (o *Out) onGoodbye(wake func()) {
	o.end.goodbyeReceived.Store(true)
	if o.isTLS() {
		o.writeStopped.Store(true)
	} else {
		o.stopWriting()
	}
	wake()
}

// stopWriting lets a write that is under way return.
func (o *Out) stopWriting() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writeStopped.Store(true)
	_ = o.conn.SetWriteDeadline(PastDeadline)
}
