// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"testing"

	"github.com/udsipc/udsipc/internal/journal"
)

// TestRoom_AllHandled_IsTold, although the last segment stays: a large message may need its room.
func TestRoom_AllHandled_IsTold(t *testing.T) {
	w := newWorld(t, journal.Config{Sync: -1})
	w.open()
	w.write(1)
	w.write(1)
	room := w.log.Room()
	writer, next := w.log.Identity()
	for number := next - 2; number < next; number++ {
		select {
		case <-room:
			t.Error("told with a message left")
		default:
		}
		if err := w.log.Handled(writer, number, 0); err != nil {
			t.Error(err)
		}
	}
	select {
	case <-room:
	default:
		t.Error("nobody was told")
	}
	w.log.Close()
}
