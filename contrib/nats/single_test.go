// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

// Small batches, which a server with one replica on files stores more quickly one by one.

import (
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	natsbridge "github.com/udsipc/udsipc/contrib/nats"
)

// TestPublisher_SmallBatches_OneByOne: each is compared, so that they are stored once and in order; a larger batch
// is an atomic one.
func TestPublisher_SmallBatches_OneByOne(t *testing.T) {
	for name, opts := range map[string][]natsbridge.PublisherOption{
		"last IDs": nil, "all IDs": {natsbridge.WithMessageIDs()},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, streamConfig(), nil)
			opts = append(opts, natsbridge.WithSingleMessages(10))
			p := w.publisher(w.js, opts...)
			w.handles(p, deliveries(1, 0, 10, false))
			if m := p.Metrics(); m.Batches != 10 || m.Published != 10 {
				t.Errorf("%+v, want 10 batches", m)
			}
			w.handles(p, deliveries(1, 10, 21, false))
			if m := p.Metrics(); m.Batches != 11 || m.Published != 21 {
				t.Errorf("%+v, want one more", m)
			}
			next := w.publisher(w.js, opts...)
			w.handles(next, deliveries(1, 15, 30, true)) // Nine of them are new.
			if m := next.Metrics(); m.Skipped != 6 || m.Published != 9 || m.Conflicts != 0 {
				t.Errorf("%+v, want 6 skipped, 9 published", m)
			}
			var mixed []udsipc.Delivery // Of several Writers in one call.
			for writer := byte(2); writer < 5; writer++ {
				mixed = append(mixed, deliveries(writer, 0, 30, false)[:3]...)
			}
			w.handles(next, mixed)
			w.handles(next, mixed)
			for writer := byte(2); writer < 5; writer++ {
				w.handles(next, deliveries(writer, 3, 30, false))
			}
			w.wantOnce(4, 30)
		})
	}
}

func TestSingleMessages(t *testing.T) {
	for _, one := range []struct {
		files bool
		ask   time.Duration
		want  int
	}{
		{true, 100 * time.Microsecond, 30}, {true, 0, 64},
		{true, 10 * time.Millisecond, 0}, // As many round trips would take longer.
		{false, 100 * time.Microsecond, 0},
	} {
		if n := natsbridge.SingleMessages(one.files, one.ask); n != one.want {
			t.Errorf("%+v: %d", one, n)
		}
	}
}
