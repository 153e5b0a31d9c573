// SPDX-License-Identifier: Apache-2.0

package journal_test

import (
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/journal"
)

// TestLog_MaxAge_BoundsSlowStreams: a message now and then never fills a segment. None waits longer than an
// eighth more than it may, and the age of the oldest is known as well.
func TestLog_MaxAge_BoundsSlowStreams(t *testing.T) {
	now := time.Unix(1000, 0)
	const age = 80 * time.Minute
	w := newWorld(t, journal.Config{Sync: -1, MaxAge: age, Now: func() time.Time { return now }})
	w.open()
	for minute := range 300 {
		w.write(1)
		c := w.log.Counts()
		if waits := now.Sub(c.Oldest); waits > age+age/8 || minute > 100 && waits < age-time.Minute {
			t.Fatalf("minute %d: the oldest waits for %v; %s", minute, waits, w)
		}
		if c.Segments > 11 {
			t.Fatalf("%d segments", c.Segments)
		}
		now = now.Add(time.Minute)
	}
	w.check()
	w.log.Close()
}

// TestLog_MaxAge_LastSegmentExpires although nothing is written any more, and its numbers are not used again.
func TestLog_MaxAge_LastSegmentExpires(t *testing.T) {
	now := time.Unix(1000, 0)
	w := newWorld(t, journal.Config{Sync: -1, MaxAge: time.Minute, Now: func() time.Time { return now }})
	w.open()
	w.write(3)
	now = now.Add(2 * time.Minute)
	w.log.Expire()
	if c := w.log.Counts(); c.Expired != 3 || c.Messages != 0 || !c.Oldest.IsZero() {
		t.Errorf("%s", w)
	}
	w.write(1)
	w.read(10)
	w.check()
	if w.last != 4 {
		t.Errorf("message %d was handled last", w.last)
	}
	w.log.Close()
}
