// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"testing"

	"github.com/udsipc/udsipc"
)

// TestAcknowledgedMessagesArrive: with acknowledgements a message is sent when it is handled.
func TestAcknowledgedMessagesArrive(t *testing.T) {
	overTransports(t, func(t *testing.T, address string) {
		const n = 20_000
		s := newSequence(t, n)
		r := startReader(t, s.handle, address)
		w := startWriter(t, address, udsipc.WithAcknowledgements(), udsipc.WithOverflow(udsipc.OverflowBlock))
		for i := range uint64(n) {
			if err := w.WriteMessage(number(i, int(i%3000))); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		await(t, "the last message", s.done)
		m := w.Metrics()
		if m.Sent != n || m.Acknowledged != n || m.Unacknowledged != 0 || m.Queued != 0 || m.Redelivered != 0 || m.AckTime.Count != n {
			t.Errorf("writer: %+v, want %d acknowledged", m, n)
		}
		if m := r.Metrics(); m.Received != n || m.Acknowledged != n || m.Writers != 1 || m.Sessions != 1 || m.Errors != 0 {
			t.Errorf("reader: %+v, want %d acknowledged", m, n)
		}
	})
}
