// SPDX-License-Identifier: Apache-2.0

package journal_test

// Clocks that jump between two lives, and within one.

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/journal"
	"github.com/udsipc/udsipc/internal/segment"
)

// TestLog_ClockJumps_DropsNothingNew: ages are those of the files, corrected by their order. Whatever the clock does,
// what is new is delivered, and what stays expires in the end.
func TestLog_ClockJumps_DropsNothingNew(t *testing.T) {
	const age, year = time.Hour, 365 * 24 * time.Hour
	for name, test := range map[string]struct {
		first, second time.Duration // How the clock jumps after two messages, and after two more in another life.
		expired       uint64
	}{
		"it does not":                  {0, 0, 0},
		"forward by less than the age": {age / 2, age / 3, 0},
		"forward":                      {0, year, 4}, // As if the time had passed.
		"forward between the writes":   {year, 0, 2},
		"back":                         {0, -year, 0},
		"back between the writes":      {-year, 0, 0},
		"back, and right again":        {-year, year, 0}, // A machine without a battery for its clock.
		"forward, and right again":     {year, -year, 2},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1_700_000_000, 0)
			clock := func() time.Time { return now }
			w := newWorld(t, journal.Config{SegmentSize: 200, MaxAge: age, Now: clock})
			w.disk.Now = clock
			w.life(2, 0)
			now = now.Add(test.first)
			w.life(2, 0)
			now = now.Add(test.second)
			w.open()
			w.writeEach(1)
			w.log.Expire()
			before := 4 - w.start.Found // What has expired in the second life.
			if expired := before + w.log.Counts().Expired; expired != test.expired {
				t.Errorf("%d expired, want %d; %s", expired, test.expired, w)
			}
			w.check()
			w.read(1)
			now = now.Add(age + time.Second)
			w.writeEach(1) // The last segment of each time goes when there is another one.
			w.log.Expire()
			if c := w.log.Counts(); c.Messages != 1 || before+c.Expired+c.Sent != 5 {
				t.Errorf("after the age: %s", w)
			}
			w.check()
			w.log.Close()
		})
	}
}

// TestLog_LongInterval_WritesDownWhatIsHandled: what is handled is not synced, so that waits no longer than ever.
func TestLog_LongInterval_WritesDownWhatIsHandled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, journal.Config{Sync: time.Hour})
		w.open()
		w.writeEach(2)
		w.read(100)
		w.writeEach(1)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		b, _ := w.disk.Content("handled")
		if handled, _, _ := segment.ParseHandled(b); handled.Number != 2 {
			t.Errorf("message %d is written down as handled, want 2", handled.Number)
		}
		if c := w.log.Counts(); c.Unsynced == 0 {
			t.Error("it has synced after 2 s, want 1 h")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if c := w.log.Counts(); c.Unsynced != 0 {
			t.Errorf("%d bytes are not synced after 1 h", c.Unsynced)
		}
		w.log.Close()
	})
}
