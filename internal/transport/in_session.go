// SPDX-License-Identifier: Apache-2.0

package transport

// This file is how a receiving connection becomes a session.

import (
	"time"

	"github.com/udsipc/udsipc/internal/wire"
)

// Hello returns the hello at the beginning of a session, once it is there whole. An error that is
// not ErrVersion means that the bytes are no hello.
func (in *In) Hello() (h wire.Hello, whole bool, err error) {
	h, size, err := wire.ParseHello(in.input.bytes())
	if err != nil || size > 0 {
		in.input.r += size
		return h, true, err
	}
	in.input.wantBytes = in.PartialBytes() + 1
	return h, false, nil
}

// RequiredHeartbeatTimeout returns the longest silence that is asked of the writer; 0 where the kernel
// tells of its end.
func (in *In) RequiredHeartbeatTimeout(configured time.Duration) time.Duration {
	if in.kind == unixSocket {
		return 0
	}
	return configured
}

// RejectSession answers a hello with the reason why there will be no session.
func (in *In) RejectSession(status wire.Status) {
	in.sendBrief(wire.Welcome{Status: status}.Append(nil))
}

// SendHeartbeat tells a writer that waits for the welcome that this side lives.
func (in *In) SendHeartbeat() { in.sendBrief(wire.Heartbeat) }

// sendBrief writes what a peer either takes at once or need not know: the end of the connection
// tells it.
func (in *In) sendBrief(b []byte) {
	_ = in.conn.SetWriteDeadline(time.Now().Add(goodbyeWriteTimeout))
	_, _ = in.conn.Write(b)
}

// BeginSession begins to acknowledge: handled is the last message that was handled before, up to
// MayRepeat an earlier reader may have handled others. The writer wants a heartbeat after each
// beat, and sends one in silence, 0 for never.
func (in *In) BeginSession(handled, mayRepeat uint64, heartbeatInterval, heartbeatTimeout time.Duration) *AckSender {
	in.wait.heartbeatTimeout = heartbeatTimeout
	in.peerRetransmits.Store(true)
	in.session = newAckSender(in, handled, mayRepeat, heartbeatInterval)
	return in.session
}
