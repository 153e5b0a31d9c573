// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

import (
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	natsbridge "github.com/udsipc/udsipc/contrib/nats"
)

// TestPublisher_AtomicBatches_AreCommittedOneAfterAnother: a second one is not committed before the first one is
// answered, although the Publisher may have four on their way.
func TestPublisher_AtomicBatches_AreCommittedOneAfterAnother(t *testing.T) {
	const writers, messages = 4, 2000
	w := newWorld(t, 1, streamConfig(), nil)
	var mu sync.Mutex
	waiting := make(map[string]bool) // Subjects of answers.
	commits, most := 0, 0
	all, err := w.connect(0).Conn().Subscribe(">", func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		delete(waiting, m.Subject)
		if m.Header.Get("Nats-Batch-Commit") != "" {
			waiting[m.Reply] = true
			commits++
			most = max(most, len(waiting))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = all.SetPendingLimits(-1, -1)
	w.reads(w.publisher(w.js, natsbridge.WithMaxInFlight(4), natsbridge.WithMaxBatch(20)))
	var sending sync.WaitGroup
	for range writers {
		sending.Go(func() { w.send(w.writes(), 0, messages) })
	}
	sending.Wait()
	mu.Lock()
	defer mu.Unlock()
	if commits < writers || most != 1 {
		t.Errorf("%d commits, of which %d were on their way at once: want 1", commits, most)
	}
}
