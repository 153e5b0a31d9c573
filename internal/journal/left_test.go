// SPDX-License-Identifier: Apache-2.0

package journal_test

// How messages leave, and who is told.

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/journal"
	"github.com/udsipc/udsipc/internal/segment"
	"github.com/udsipc/udsipc/internal/wire"
)

// closed reports whether a channel is closed.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestHandled_Undelivered_CountsApart(t *testing.T) {
	w := newWorld(t, journal.Config{})
	w.open()
	w.writeEach(10)
	changed := w.log.Changed()
	for _, step := range []struct{ number, undelivered, sent, all, left uint64 }{
		{0, 3, 0, 0, 0}, // Nothing is released.
		{4, 1, 3, 1, 4},
		{4, 2, 3, 1, 4}, // It is known already.
		{6, 2, 3, 3, 6},
		{7, 9, 3, 4, 7}, // At most what is released.
		{10, 0, 6, 4, 10},
	} {
		if err := w.log.Handled(w.start.Writer, step.number, step.undelivered); err != nil {
			t.Fatal(err)
		}
		w.check()
		if c := w.log.Counts(); c.Sent != step.sent || c.Undelivered != step.all || w.log.Left() != step.left {
			t.Errorf("after %+v: %d have left; %s", step, w.log.Left(), w)
		}
		if told := closed(changed); told != (step.left > 0) {
			t.Errorf("after %+v: told %v", step, told)
		}
	}
	w.log.Close()
}

// TestChanged_EachWayToLeave_Tells: dropped, expired, damaged, and known to the reader.
func TestChanged_EachWayToLeave_Tells(t *testing.T) {
	now := time.Unix(1000, 0)
	config := journal.Config{SegmentSize: 200, MaxBytes: 1500, DropOldest: true, MaxAge: time.Hour,
		Now: func() time.Time { return now }}
	for name, leave := range map[string]func(w *world){
		"dropped": func(w *world) { w.writeEach(20) },
		"expired": func(w *world) { now = now.Add(2 * time.Hour); w.log.Expire() },
		"damaged": func(w *world) {
			name := w.disk.Names(".seg")[0]
			content, _ := w.disk.Content(name)
			w.disk.SetContent(name, bytes.Repeat([]byte{1}, len(content)))
			w.log.Rewind()
			w.welcome(w.start.Writer)
			w.log.Next()
		},
		"known": func(w *world) { w.handled[w.start.Writer] = 3; w.welcome(w.start.Writer) },
	} {
		w := newWorld(t, config)
		w.disk.Now = config.Now
		w.life(8, 1)
		w.open()
		if left, end := w.log.Left(), w.log.End(); left != 0 || end != 8 {
			t.Errorf("%s: %d of %d before", name, left, end)
		}
		changed, again := w.log.Changed(), w.log.Changed()
		if closed(changed) {
			t.Errorf("%s: told too early", name)
		}
		leave(w)
		w.check()
		if !closed(changed) || !closed(again) || w.log.Left() == 0 {
			t.Errorf("%s: %v, %v; %d have left; %s", name, closed(changed), closed(again), w.log.Left(), w)
		}
		if closed(w.log.Changed()) {
			t.Errorf("%s: told twice", name)
		}
		w.log.Close()
	}
}

// TestLeft_DamageAhead_WaitsForWhatIsBefore: what cannot be read counts as damaged before what was read earlier is
// handled, but has not left before it.
func TestLeft_DamageAhead_WaitsForWhatIsBefore(t *testing.T) {
	w := newWorld(t, journal.Config{SegmentSize: 200})
	w.life(9, 0)
	name := w.disk.Names(".seg")[1]
	content, _ := w.disk.Content(name)
	for i := 48; i < len(content); i++ {
		content[i] ^= 1
	}
	w.disk.SetContent(name, content)
	w.open()
	w.welcome(w.start.Writer)
	var last uint64
	for {
		b, err := w.log.Next()
		if err != nil {
			break
		}
		last = b.First + uint64(b.Count) - 1
	}
	damaged := w.log.Counts().Damaged
	if damaged == 0 || last != 9 || w.log.Left() != 0 {
		t.Fatalf("%d have left, the last one is %d; %s", w.log.Left(), last, w)
	}
	first := w.damage[0].From
	for number := uint64(1); number <= 9; number++ {
		if err := w.log.Handled(w.start.Writer, number, 0); err != nil {
			t.Fatal(err)
		}
		want := number
		if number >= first-1 {
			want = max(number, first+damaged-1)
		}
		if left := w.log.Left(); left != want {
			t.Errorf("after message %d: %d have left, want %d; %s", number, left, want, w)
		}
	}
	w.check()
	w.log.Close()
}

// TestLog_RemovalLost_IsNoDamage: what was handled need not be on the disk, and what was removed may come back
// in part. With a reader that remembers, nothing of it is reported, and no number is missing that was synced.
func TestLog_RemovalLost_IsNoDamage(t *testing.T) {
	for seed := range uint64(400) {
		random := rand.New(rand.NewPCG(seed, 41))
		config := journal.Config{SegmentSize: int64(1000 + random.IntN(2000)), Sync: time.Hour}
		if seed%2 == 0 {
			config.Sync = 0
		}
		w := newWorld(t, config)
		for range 4 {
			w.open() // OnDamage of the world compares with what is handled.
			for range random.IntN(20) {
				w.write(1 + random.IntN(50)) // Of several sectors.
				w.read(random.IntN(3))
			}
			w.disk, w.boot = w.disk.PowerLoss(random), w.boot+1
		}
		w.open()
		w.read(1000)
		for _, d := range w.damage {
			if d.From < d.To && config.Sync == 0 {
				t.Errorf("seed %d: %+v", seed, d)
			}
		}
		if _, err := w.log.Next(); err == nil || errors.Is(err, journal.ErrClosed) {
			t.Errorf("seed %d: %v", seed, err)
		}
		w.check()
		w.log.Close()
	}
}

// TestHandled_ReplacedSegment_AddsUp: a copy has messages from a lower number on than the segment before it, which it
// replaces.
func TestHandled_ReplacedSegment_AddsUp(t *testing.T) {
	w := newWorld(t, journal.Config{})
	id := segment.WriterID{77}
	for _, s := range []struct {
		start uint32
		first uint64
		count int
	}{{1, 1, 3}, {2, 10, 2}, {3, 4, 8}} {
		content := segment.AppendHeader(nil, segment.Header{Writer: id, First: s.first})
		batch := make([]byte, segment.BatchHeaderSize)
		for range s.count {
			batch = wire.AppendFrame(batch, []byte("hello"))
		}
		segment.SealBatch(batch, id, s.first, s.count)
		w.disk.SetContent(segment.Name(s.start, s.first), append(content, batch...))
	}
	w.open()
	if w.start.Found != 11 {
		t.Fatalf("%s", w)
	}
	for _, number := range []uint64{1, 5, 11} {
		if err := w.log.Handled(id, number, 0); err != nil {
			t.Fatal(err)
		}
		w.check()
		if left := w.log.Left(); left != number {
			t.Errorf("after message %d: %d have left", number, left)
		}
	}
	w.log.Close()
}
