// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is how a receiving connection becomes a session.

import "time"

// hello returns the hello at the beginning of a session, once it is there whole. An error that is
// not errVersion means that the bytes are no hello.
func (in *inbound) hello() (h hello, whole bool, err error) {
	h, size, err := parseHello(in.input.bytes())
	if err != nil || size > 0 {
		in.input.r += size
		return h, true, err
	}
	in.input.wantBytes = in.partialBytes() + 1
	return h, false, nil
}

// requiredHeartbeatTimeout returns the longest silence that is asked of the writer; 0 where the kernel
// tells of its end.
func (in *inbound) requiredHeartbeatTimeout(configured time.Duration) time.Duration {
	if in.kind == unixSocket {
		return 0
	}
	return configured
}

// rejectSession answers a hello with the reason why there will be no session.
func (in *inbound) rejectSession(status welcomeStatus) {
	in.sendBrief(appendWelcome(nil, welcome{status: status}))
}

// sendHeartbeat tells a writer that waits for the welcome that this side lives.
func (in *inbound) sendHeartbeat() { in.sendBrief(heartbeat) }

// sendBrief writes what a peer either takes at once or need not know: the end of the connection
// tells it.
func (in *inbound) sendBrief(b []byte) {
	_ = in.conn.SetWriteDeadline(time.Now().Add(goodbyeWriteTimeout))
	_, _ = in.conn.Write(b)
}

// beginSession begins to acknowledge: handled is the last message that was handled before, up to
// mayRepeat an earlier reader may have handled others. The writer wants a heartbeat after each
// beat, and sends one in silence, 0 for never.
func (in *inbound) beginSession(handled, mayRepeat uint64, beat, silence time.Duration) *ackSender {
	in.wait.heartbeatTimeout = silence
	in.peerRetransmits.Store(true)
	in.session = newAckSender(in, handled, mayRepeat, beat)
	return in.session
}
