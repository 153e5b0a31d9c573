// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file reads what comes back on a sending connection.

// watch reads the back channel until the connection ends, then calls wake. The Writer starts it and
// waits for it through ended.
func (o *outbound) watch(wake func()) {
	defer wake()
	defer close(o.end.ended)
	defer o.leave()
	if o.back != nil {
		o.end.cause = o.listen(wake)
		return
	}
	for o.end.cause == nil {
		var n int
		n, o.end.cause = o.conn.Read(o.end.last.space())
		if o.end.last.add(n) {
			o.hearGoodbye(wake)
		}
	}
}

// hearGoodbye has the drain goroutine close the sending side. A write that is under way is
// interrupted, but not one of TLS, which could not even say that it ends after that; the peer reads
// on for it.
func (o *outbound) hearGoodbye(wake func()) {
	o.end.said.Store(true)
	if o.secure() {
		o.leaving.Store(true)
	} else {
		o.leave()
	}
	wake()
}

// leave lets a write that is under way return.
func (o *outbound) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.leaving.Store(true)
	_ = o.conn.SetWriteDeadline(aLongTimeAgo)
}
