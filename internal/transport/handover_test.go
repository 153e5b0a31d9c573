// SPDX-License-Identifier: Apache-2.0

package transport_test

// The pause of a receiving connection at a frame boundary, for a hand-over.

import (
	"testing"
	"testing/synctest"

	"github.com/udsipc/udsipc/internal/transport"
)

// TestIn_NotASocket_CannotBeHandedOver if it is no socket.
func TestIn_NotASocket_CannotBeHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		if err := in.HandOverError(); err != nil {
			t.Error(err)
		}
		in.RequestHandOver()
		if err := in.HandOverError(); err == nil || err.Error() != "not a plain Unix or TCP socket (TLS or in-memory)" {
			t.Error(err)
		}
		if !in.IsClosing() {
			t.Error("it stays open")
		}
	})
}
