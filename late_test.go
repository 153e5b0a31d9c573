// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"io"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

// TestTimeoutThatHasPassed: a goroutine that is run too late, for a moment or for long, still looks at what has come, and
// then ends its connection. No timeout is so short that it does not.
func TestTimeoutThatHasPassed(t *testing.T) {
	for name, opt := range map[string]udsipc.ReaderOption{
		"inactivity":    udsipc.WithInactivityTimeout(time.Nanosecond),
		"first message": udsipc.WithFirstMessageTimeout(time.Nanosecond),
		"message":       udsipc.WithMessageTimeout(time.Nanosecond),
	} {
		t.Run(name, func(t *testing.T) {
			overModes(t, func(t *testing.T, on *route) {
				got := make(chan struct{}, 1)
				r := on.startReader(t, func([]byte) error { got <- struct{}{}; return nil }, opt)
				if on.acknowledged {
					w := on.newWriter(t, udsipc.WithMaxBackoff(time.Millisecond))
					mustStart(t, w)
					mustWriteMessage(t, w, "x")
					await(t, "the message", got)
				} else {
					conn := on.dial(t)
					mustWrite(t, conn, frames("x")[:1]) // A part of a message.
					conn.SetReadDeadline(time.Now().Add(10 * time.Second))
					if _, err := io.Copy(io.Discard, conn); isTimeout(err) {
						t.Error("the connection does not end")
					}
				}
				if name != "inactivity" && on.acknowledged {
					return // Nothing is wrong with a connection on which all came at once.
				}
				until(t, "its end is counted", func() bool { m := r.Metrics(); return m.IdleClosed+m.TooSlow > 0 })
			})
		})
	}
}
