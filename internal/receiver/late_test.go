// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestReader_LateTimeout_ReadsFirst: a goroutine that is run too late, for a moment or for long,
// still looks at what has come, and then ends its connection.
func TestReader_LateTimeout_ReadsFirst(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long")
	}
	for name, opt := range map[string]udsipc.ReaderOption{
		"inactivity":    udsipc.WithInactivityTimeout(time.Nanosecond),
		"first message": udsipc.WithFirstMessageTimeout(time.Nanosecond),
		"message":       udsipc.WithMessageTimeout(time.Nanosecond),
	} {
		t.Run(name, func(t *testing.T) {
			ipctest.OverAddresses(t, func(t *testing.T, address string) {
				t.Parallel()
				r := ipctest.StartReader(t, ipctest.Ignore, address, opt)
				conn := ipctest.MustDial(t, address)
				_, _ = conn.Write(ipctest.Frames("x")[:1]) // A part of a message, if the connection has not ended yet.
				ipctest.ReadToEnd(t, conn)
				ipctest.Until(t, "its end is counted", func() bool { m := r.Metrics(); return m.IdleClosed+m.TooSlow > 0 })
			})
		})
	}
}
