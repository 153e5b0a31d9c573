// SPDX-License-Identifier: Apache-2.0

package transport

// This file makes a receiving connection a session.

import (
	"time"

	"github.com/udsipc/udsipc/internal/wire"
)

// Hello returns the hello of a session once it is complete. Any error but ErrVersion means that the
// bytes are not a hello.
func (in *In) Hello() (h wire.Hello, whole bool, err error) {
	h, size, err := wire.ParseHello(in.input.bytes())
	if err != nil || size > 0 {
		in.input.r += size
		return h, true, err
	}
	in.input.wantBytes = in.PartialBytes() + 1
	return h, false, nil
}

// RequiredHeartbeatTimeout returns the heartbeat timeout to announce to the writer; 0 where the
// kernel reports a lost peer.
func (in *In) RequiredHeartbeatTimeout(configured time.Duration) time.Duration {
	if in.kind == unixSocket {
		return 0
	}
	return configured
}

// RejectSession replies to a hello with the reason why there is no session.
func (in *In) RejectSession(status wire.Status) {
	in.sendBrief(wire.Welcome{Status: status}.Append(nil))
}

// SendHeartbeat sends a heartbeat to a writer that waits for the welcome.
func (in *In) SendHeartbeat() { in.sendBrief(wire.Heartbeat) }

// sendBrief writes b with a short timeout. Errors are ignored: reading reports the end of the
// connection.
func (in *In) sendBrief(b []byte) { writeBrief(in.conn, b) }

// BeginSession starts acknowledging. handled is the last message that was handled before. An
// earlier reader may have handled messages up to mayRepeat. This side sends a heartbeat every
// heartbeatInterval, and expects one within heartbeatTimeout; 0 disables each.
func (in *In) BeginSession(handled, mayRepeat uint64, heartbeatInterval, heartbeatTimeout time.Duration) *AckSender {
	in.wait.heartbeatTimeout = heartbeatTimeout
	in.peerRetransmits.Store(true)
	in.session = newAckSender(in, handled, mayRepeat, heartbeatInterval)
	return in.session
}
