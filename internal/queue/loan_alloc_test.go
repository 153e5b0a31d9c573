// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"testing"
	"testing/synctest"

	"github.com/udsipc/udsipc/internal/queue"
)

// TestQueue_ManyLoans_AreKept for reuse: as many as are queued at once while producers are paced.
func TestQueue_ManyLoans_AreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := lends(t, func() {})
		const most = queue.PacedBytes/(queue.ChunkSize+1) - 1
		var lent []*lentMessage
		for range most {
			lent = append(lent, q.writes(queue.ChunkSize, 'a'))
		}
		if n := q.ReadCounts().Queued; n != most {
			t.Fatalf("%d messages are queued, want %d", n, most)
		}
		for q.ReadCounts().Queued > 0 {
			n := 0
			for _, b := range q.take(256<<10, 64) {
				n += len(b)
			}
			if _, err := q.MarkWritten(n); err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range lent {
			<-m.done
		}
		if n := q.SpareLoans(); n != most {
			t.Errorf("%d loans are kept, want %d", n, most)
		}
	})
}
