// SPDX-License-Identifier: Apache-2.0

package queue_test

// What leaves a queue undelivered: to make room, because it is too old, because it is refused, or at the end.

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
)

// TestQueue_DropOldest_MakesSpace: as many as are needed and no more, never what a connection has begun to take.
func TestQueue_DropOldest_MakesSpace(t *testing.T) {
	q := queueOf(t, queue.Limits{Messages: 4, Bytes: 20, DropOldest: true})
	q.push("a", "b", "c", "d", "e") // By messages.
	q.tallies(tally(5, 0, 0, 1, 0, 0, 4, 8, 0))
	q.push("f23456789012345") // 16 bytes: two have to go.
	q.tallies(tally(6, 0, 0, 3, 0, 0, 3, 20, 0))
	q.takes(frame("d"), frame("e"), frame("f23456789012345"))
	q.written(1, 0)
	q.refused("g", errdefs.ErrBufferFull) // All that is there lies in a piece of which a part is sent.
	q.written(3, 0)                       // Nothing is under way: it is not counted.
	q.takes("d", frame("e"), frame("f23456789012345"))
	q.refused("g", errdefs.ErrBufferFull) // It is being written.
	q.written(19, 3)
	q.push("1", "2", "3", "4")
	q.takes(frame("1"), frame("2"), frame("3"), frame("4"))
	q.written(0, 0)
	q.push("5") // What was taken before is not being written any more.
	q.takes(frame("2"), frame("3"), frame("4"), frame("5"))
	q.tallies(tally(11, 2, 3, 4, 0, 0, 4, 8, 0))
}

// TestQueue_DropOldest_SkipsSentMessages: the first piece, of which the connection has a part,
// stays; the next one goes.
func TestQueue_DropOldest_SkipsSentMessages(t *testing.T) {
	large := sized(70_000)
	q := queueOf(t, queue.Limits{Messages: 3, DropOldest: true})
	q.push("a", large)
	q.takes(frame("a"), frame(large))
	q.written(1, 0)
	q.push("c", "d")
	q.tallies(tally(4, 0, 0, 1, 0, 0, 3, 6, 0))
	q.take(1, 1)
	q.push("e") // While a is being written.
	q.tallies(tally(5, 0, 0, 2, 0, 0, 3, 6, 0))
	q.written(1, 1)
	q.takes(frame("d"), frame("e"))
}

// TestQueue_DropBefore_KeepsFillingPiece: what is dropped before it does not end the piece that is being filled.
func TestQueue_DropBefore_KeepsFillingPiece(t *testing.T) {
	q := queueOf(t, queue.Limits{Messages: 3, DropOldest: true})
	q.push(sized(70_000), "b", "c", "d", "e")
	if n, _ := q.Segments(); n != 1 {
		t.Errorf("%d pieces", n)
	}
	q.takes(frame("c"), frame("d"), frame("e"))
}

// TestQueue_DropOldest_SkipsWrittenMessages: what is being written stays, and what makes no room is not dropped.
func TestQueue_DropOldest_SkipsWrittenMessages(t *testing.T) {
	q := queueOf(t, queue.Limits{Messages: 3, Bytes: 100, DropOldest: true})
	q.push("a", "b")
	q.takes(frame("a"), frame("b"))
	q.push("c", "d")
	q.tallies(tally(4, 0, 0, 1, 0, 0, 3, 6, 0))
	q.refused(sized(97), errdefs.ErrBufferFull)
	q.tallies(tally(4, 1, 0, 1, 0, 0, 3, 6, 0))
	q.push(sized(96))
	q.tallies(tally(5, 1, 0, 2, 0, 0, 3, 100, 0))
	if err := q.Check(); err != nil {
		t.Error(err)
	}
}

// TestQueue_DropOldestWithAcks_KeepsSentMessages: a message that has a number keeps it.
func TestQueue_DropOldestWithAcks_KeepsSentMessages(t *testing.T) {
	q := queueOf(t, queue.Limits{Messages: 3, Bytes: 100, DropOldest: true, Acks: true})
	q.push("a", "b")
	q.sends(2)
	q.push("c", "d")
	q.tallies(tally(4, 0, 0, 1, 0, 0, 3, 6, 2))
	q.acknowledges(1)
	q.push("e")
	q.tallies(tally(5, 0, 1, 1, 0, 0, 3, 8, 1)) // The memory of a goes with that of b.
	q.takes(frame("d"), frame("e"))
	q.refused("f23", errdefs.ErrBufferFull)
	q.written(4, 2)
	q.acknowledges(4)
	q.push("f", "g", "h")
	q.sends(3)
	q.acknowledges(5) // f has left, though not its memory.
	q.push("i", "j")  // In the place of f, and in that of i.
	q.tallies(tally(10, 1, 5, 2, 0, 0, 3, 8, 2))
	q.acknowledges(7)
	q.takes(frame("j"))
	q.written(2, 1)
	q.acknowledges(8)
	q.push("f", "g", "h")
	q.takes(frame("f"), frame("g"), frame("h"))
	q.rewinds(0, 0)
	q.refused("i", errdefs.ErrBufferFull)
	q.tallies(tally(13, 2, 8, 2, 0, 0, 3, 6, 0))
}

// TestQueue_ControlMessages_PassLimits are dropped if nothing else is queued, and counted apart.
func TestQueue_ControlMessages_PassLimits(t *testing.T) {
	large := sized(queue.ChunkSize + 1)
	for _, test := range []struct {
		what     string
		messages []string // A control message begins with a !.
		sent     int
		dropped  uint64
	}{
		{"nothing", nil, 0, 0},
		{"control messages alone", []string{"!1", "!2"}, 0, 2},
		{"a message before", []string{"a", "!1"}, 0, 0},
		{"a message before, which is sent", []string{"a", "!1", "!2"}, 1, 2},
		{"a message before, which is sent, and one of them", []string{"a", "!1", "!2"}, 2, 1},
		{"a message behind", []string{"!1", "a"}, 0, 0},
		{"a message between", []string{"!1", "a", "!2"}, 0, 0},
		{"a message between, and one is sent", []string{"!1", "a", "!2"}, 1, 0},
		{"a message between, which is sent", []string{"!1", "a", "!2"}, 2, 1},
		{"all sent", []string{"!1"}, 1, 0},
		{"a large one", []string{"!" + large}, 0, 0},
		{"one of a chunk", []string{"!" + sized(queue.ChunkSize)[1:]}, 0, 1},
	} {
		q := queueOf(t, queue.Limits{})
		for _, m := range test.messages {
			if m[0] != '!' {
				q.push(m)
			} else if _, _, err := q.EnqueueControl([]byte(m)); err != nil {
				t.Fatal(err)
			}
		}
		for range test.sent {
			q.take(1<<20, 64)
			q.written(len(frame(test.messages[0])), 1)
			test.messages = test.messages[1:]
		}
		q.rewinds(0, 0)
		before := q.ReadCounts()
		flushed := q.Flushed()
		q.DropControl()
		got := q.ReadCounts()
		if got.Dropped != test.dropped || got.DroppedControl != test.dropped || got.Queued != before.Queued-test.dropped {
			t.Errorf("%s: %+v, want %d dropped", test.what, got, test.dropped)
		}
		select {
		case <-flushed:
			if got.Queued > 0 {
				t.Errorf("%s: flushed", test.what)
			}
		default:
			if got.Queued == 0 {
				t.Errorf("%s: nobody is told that the queue is empty", test.what)
			}
		}
	}
}

// TestQueue_Expiry_DropsOldMessages: a message is dropped by itself when it is older than the
// limit, a millisecond later at most, and the goroutine that drains is told.
func TestQueue_Expiry_DropsOldMessages(t *testing.T) {
	for _, acks := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			const age = 100 * time.Millisecond
			q := queueOf(t, queue.Limits{MaxAge: age, Acks: acks})
			sleep := func(d time.Duration) {
				time.Sleep(d)
				synctest.Wait()
			}
			expired := func(want uint64) {
				t.Helper()
				if got := q.State().Expired; got != want {
					t.Errorf("%d have expired, want %d", got, want)
				}
			}
			sleep(time.Hour)
			q.push("a", "b")
			sleep(age / 2)
			q.push("c")
			sleep(age / 2)
			expired(0)
			sleep(1)
			expired(2)
			if !q.wakes() {
				t.Error("nobody is told of messages that are too old")
			}
			sleep(age/2 - 1)
			expired(2)
			sleep(1)
			expired(3)
			q.tallies(tally(3, 0, 0, 0, 3, 0, 0, 0, 0))
			// What is taken does not expire; what was taken, and came back, does, without acknowledgements.
			q.push("d", "e")
			q.takes(frame("d"), frame("e"))
			sleep(2 * age)
			expired(3)
			q.written(3, 1)
			sleep(2 * age)
			expired(3)
			if acks {
				return
			}
			q.rewinds(5, 1)
			sleep(time.Millisecond)
			expired(4)
			if err := q.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestQueue_Expiry_IsCountedAtOnce: whoever looks does not wait for the timer, whose steps are a millisecond.
func TestQueue_Expiry_IsCountedAtOnce(t *testing.T) {
	const age = 20 * time.Microsecond
	for name, look := range map[string]func(q testQueue) bool{
		"ReadCounts": func(q testQueue) bool { return q.ReadCounts().Queued == 0 },
		"Empty":      func(q testQueue) bool { return q.Empty() },
		"Take":       func(q testQueue) bool { return len(q.take(1000, 10)) == 0 },
		"Flush":      func(q testQueue) bool { return q.Flush(q.Context()) == nil },
		"Flushed":    func(q testQueue) bool { <-q.Flushed(); return true },
		"Push":       func(q testQueue) bool { return q.EnqueueAndWake(make([]byte, 98)) == nil },
	} {
		synctest.Test(t, func(t *testing.T) {
			q := queueOf(t, queue.Limits{Bytes: 100, MaxAge: age})
			q.push("a")
			room := make(chan error, 1)
			go func() { room <- q.EnqueueWaitAndWake(t.Context(), make([]byte, 98)) }()
			synctest.Wait()
			if name != "Push" {
				flushed := q.Flushed()
				time.Sleep(age)
				if q.Empty() {
					t.Error("it is too old too early")
				}
				time.Sleep(time.Nanosecond)
				look(q)
				if s := q.State(); s.Expired != 1 {
					t.Errorf("%s does not drop what is too old: %+v", name, s)
				}
				select {
				case <-flushed:
				default:
					t.Errorf("%s: who waits for a flush is not told", name)
				}
				if err := <-room; err != nil {
					t.Error(err)
				}
			} else {
				time.Sleep(age)
				q.refused("", errdefs.ErrBufferFull) // One waits.
				time.Sleep(time.Millisecond)
				<-room
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(t, queue.Limits{Messages: 1, MaxAge: age})
		q.push("a")
		time.Sleep(age)
		q.refused("b", errdefs.ErrBufferFull)
		time.Sleep(time.Nanosecond)
		q.push("b")
		q.tallies(tally(2, 1, 0, 0, 1, 0, 1, 2, 0))
		time.Sleep(time.Millisecond - age) // The timer of a comes a millisecond after it at the earliest.
		synctest.Wait()
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if s := q.State(); s.Expired != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// TestQueue_ExpiryTimer_Fires runs for messages that age, however little, and for no others.
func TestQueue_ExpiryTimer_Fires(t *testing.T) {
	for _, age := range []time.Duration{0, 1, 2} {
		synctest.Test(t, func(t *testing.T) {
			q := queueOf(t, queue.Limits{MaxAge: age})
			q.push("a")
			time.Sleep(time.Millisecond)
			synctest.Wait()
			if s := q.State(); q.HasTimer() != (age > 0) || s.Expired == 0 != (age == 0) {
				t.Errorf("an age of %v: timer %v, %+v", age, q.HasTimer(), s)
			}
		})
	}
}

// TestQueue_AgeResolution_IsBounded: messages share a piece if their times differ by less than a
// 64th of the age limit, or a millisecond.
func TestQueue_AgeResolution_IsBounded(t *testing.T) {
	for _, test := range []struct{ age, grain time.Duration }{
		{64 * time.Second, time.Millisecond}, {64_000_000, time.Millisecond}, {6400, 100},
	} {
		synctest.Test(t, func(t *testing.T) {
			q := queueOf(t, queue.Limits{MaxAge: test.age})
			time.Sleep(time.Hour)
			q.push("a")
			time.Sleep(test.grain)
			q.push("b")
			if n, _ := q.Segments(); n != 1 {
				t.Errorf("%d pieces", n)
			}
			time.Sleep(time.Nanosecond)
			q.push("c")
			if n, _ := q.Segments(); n != 2 {
				t.Errorf("%d pieces", n)
			}
			q.takes(frame("a"), frame("b"), frame("c"))
			q.DiscardAll(nil)
		})
	}
}

// TestQueue_RemoveHead_ReturnsCopy takes the oldest message out, if it still is the one.
func TestQueue_RemoveHead_ReturnsCopy(t *testing.T) {
	q := queueOf(t, queue.Limits{})
	if _, ok := q.RemoveHead(1); ok {
		t.Error("something was set aside of nothing")
	}
	if _, ok := q.RemoveHead(0); ok {
		t.Error("something was set aside of nothing")
	}
	q.push("a", "b")
	q.takes(frame("a"), frame("b"))
	q.written(1, 0)
	q.rewinds(1, 1)
	flushed := q.Flushed()
	if data, ok := q.RemoveHead(2); ok || data != nil {
		t.Errorf("%q was set aside", data)
	}
	if data, ok := q.RemoveHead(1); !ok || string(data) != "a" {
		t.Errorf("%q was set aside, %v", data, ok)
	}
	q.tallies(tally(2, 0, 0, 0, 0, 1, 1, 2, 0))
	if err := q.UndeliveredErr(); !errors.Is(err, errdefs.ErrStopped) ||
		err.Error() != "udsipc: stopped: 1 message was not sent" {
		t.Error(err)
	}
	if data, ok := q.RemoveHead(2); !ok || string(data) != "b" {
		t.Errorf("%q was set aside, %v", data, ok)
	}
	<-flushed
	if err := q.UndeliveredErr(); !errors.Is(err, errdefs.ErrStopped) ||
		err.Error() != "udsipc: stopped: 2 messages were not sent" {
		t.Error(err)
	}
	q.tallies(tally(2, 0, 0, 0, 0, 2, 0, 0, 0))
}

// TestQueue_DiscardAll_ReturnsEverything: all that is left is visited, in order, and is undelivered.
func TestQueue_DiscardAll_ReturnsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(t, queue.Limits{Messages: 5, Acks: true, MaxAge: time.Hour})
		q.push("a", "", sized(70_000), "d")
		q.sends(4)
		q.acknowledges(1)
		q.rewinds(0, 0)
		q.push("e", "f")
		q.take(1, 1)
		flushed, waiter := q.Flushed(), make(chan error, 1)
		go func() { waiter <- q.EnqueueWaitAndWake(t.Context(), nil) }()
		synctest.Wait()
		if err := q.UndeliveredErr(); err != nil {
			t.Error(err)
		}
		var got []string
		left := q.DiscardAll(func(data []byte) {
			if cap(data) != len(data) {
				t.Error("appending to a message would touch the next one")
			}
			got = append(got, string(data))
		})
		if want := []string{"", sized(70_000)[3:], "d", "e", "f"}; left != 5 || len(got) != 5 ||
			!slices.Equal(got[2:], want[2:]) || got[0] != "" {
			t.Errorf("%d are left: %.60q", left, got)
		}
		<-flushed
		if err := <-waiter; !errors.Is(err, errdefs.ErrStopped) {
			t.Error(err)
		}
		if err := q.UndeliveredErr(); !errors.Is(err, errdefs.ErrStopped) {
			t.Error(err)
		}
		q.tallies(tally(6, 0, 1, 0, 0, 5, 0, 0, 0))
		q.written(3, 0) // The write that was under way.
		q.takes()
		if q.HeldBytes() != 0 || q.RemovedThrough() != 6 || !q.Empty() || q.DiscardAll(nil) != 0 {
			t.Error("something is left")
		}
		if _, chunk := q.Segments(); chunk {
			t.Error("a chunk is kept")
		}
		q.refused("g", errdefs.ErrStopped)
		time.Sleep(2 * time.Hour)
		q.tallies(tally(6, 0, 1, 0, 0, 5, 0, 0, 0))
	})
}

// TestQueue_Close_RejectsMessages refuses what comes, and tells who waits for room; what is there stays.
func TestQueue_Close_RejectsMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(t, queue.Limits{Messages: 1})
		q.push("a")
		done := make(chan error, 1)
		go func() {
			number, idle, err := q.EnqueueWait(t.Context(), nil)
			if number != 0 || idle {
				t.Errorf("message %d, idle %v", number, idle)
			}
			done <- err
		}()
		room := q.NotifySpace()
		synctest.Wait()
		q.Close()
		if err := <-done; !errors.Is(err, errdefs.ErrStopped) {
			t.Error(err)
		}
		<-room
		if q.NotifySpace() != nil {
			t.Error("who looks for room in a closed queue waits")
		}
		if q.Empty() || q.RemovedThrough() != 0 {
			t.Error("the message has gone")
		}
		q.takes(frame("a"))
		q.written(2, 1)
		q.tallies(tally(1, 0, 1, 0, 0, 0, 0, 0, 0))
	})
}
