// SPDX-License-Identifier: Apache-2.0

package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/wire"
)

// batchForms are the two forms of a batch.
var batchForms = map[string]func(messages ...string) queue.Batch{
	"messages": func(messages ...string) queue.Batch {
		var list [][]byte
		for _, m := range messages {
			list = append(list, []byte(m))
		}
		return queue.BatchOfMessages(list)
	},
	"frames": func(messages ...string) queue.Batch {
		b, err := queue.BatchOfFrames([]byte(framesOf(messages...)), len(messages))
		if err != nil {
			panic(err)
		}
		return b
	},
}

func framesOf(messages ...string) (frames string) {
	for _, m := range messages {
		frames += frame(m)
	}
	return frames
}

// TestQueue_Batches_AreWrittenAsTheyCame: batches of all sizes around a chunk, among single messages.
func TestQueue_Batches_AreWrittenAsTheyCame(t *testing.T) {
	sizes := []int{
		0, 1, 127, 128, 3000, queue.ChunkSize / 2, queue.ChunkSize/2 + 1, queue.ChunkSize - 3, queue.ChunkSize - 2,
		queue.ChunkSize, queue.ChunkSize + 1, 3 * queue.ChunkSize,
	}
	for name, batchOf := range batchForms {
		for seed := range uint64(40) {
			r := rand.New(rand.NewPCG(seed, 1))
			q := queueOf(t, queue.Limits{MaxAge: time.Hour * time.Duration(seed%2)})
			want, count := "", 0
			for range 1 + r.IntN(12) {
				messages := make([]string, r.IntN(5)*r.IntN(20))
				for i := range messages {
					size := sizes[r.IntN(5)]
					if r.IntN(8) == 0 {
						size = sizes[r.IntN(len(sizes))]
					}
					messages[i] = strings.Repeat(string(rune('a'+r.IntN(26))), size)
				}
				if err := q.EnqueueBatchAndWake(batchOf(messages...)); err != nil {
					t.Fatal(err)
				}
				q.push("single")
				want += framesOf(append(messages, "single")...)
				count += len(messages) + 1
				if err := q.Check(); err != nil {
					t.Fatalf("%s, seed %d: %v", name, seed, err)
				}
			}
			if s := q.State(); s.Accepted != uint64(count) || s.QueuedBytes != uint64(len(want)) {
				t.Errorf("%s, seed %d: %+v, want %d messages of %d bytes", name, seed, s, count, len(want))
			}
			got, left := "", count
			for len(got) < len(want) {
				taken := string(bytes.Join(q.take(100_000, 64), nil))
				n := 1 + r.IntN(len(taken))
				got += taken[:n]
				messages, err := q.MarkWritten(n)
				if left -= messages; err != nil {
					t.Fatal(err)
				}
			}
			if got != want || left != 0 {
				t.Errorf("%s, seed %d: %d bytes, %d messages left; want %d", name, seed, len(got), left, len(want))
			}
		}
	}
}

// TestQueue_Batch_IsAcceptedWholeOrNotAtAll, and counted by its messages.
func TestQueue_Batch_IsAcceptedWholeOrNotAtAll(t *testing.T) {
	for name, batchOf := range batchForms {
		for _, test := range []struct {
			limits queue.Limits
			first  int // Messages of one byte before.
			batch  []string
			want   error
			text   string
			after  queue.Counts
		}{
			{queue.Limits{Messages: 4}, 1, []string{"a", "b", "c"}, nil, "", tally(4, 0, 0, 0, 0, 0, 4, 8, 0)},
			{queue.Limits{Messages: 4}, 2, []string{"a", "b", "c"}, errdefs.ErrBufferFull,
				"4 messages (WithMaxBufferedWrites)", tally(2, 3, 0, 0, 0, 0, 2, 4, 0)},
			{queue.Limits{Messages: 2}, 0, []string{"a", "b", "c"}, errdefs.ErrMessageTooLarge,
				"3 messages at once in a queue of 2 (WithMaxBufferedWrites)", tally(0, 0, 0, 0, 0, 0, 0, 0, 0)},
			{queue.Limits{Bytes: 8}, 1, []string{"a", "b", "c"}, nil, "", tally(4, 0, 0, 0, 0, 0, 4, 8, 0)},
			{queue.Limits{Bytes: 7}, 1, []string{"a", "b", "c"}, errdefs.ErrBufferFull,
				"7 bytes (WithMaxBufferedBytes)", tally(1, 3, 0, 0, 0, 0, 1, 2, 0)},
			{queue.Limits{Bytes: 5}, 0, []string{"a", "b", "c"}, errdefs.ErrMessageTooLarge,
				"6 bytes in a queue of 5 (WithMaxBufferedBytes)", tally(0, 0, 0, 0, 0, 0, 0, 0, 0)},
			{queue.Limits{Messages: 4, DropOldest: true}, 3, []string{"a", "b", "c"}, nil, "",
				tally(6, 0, 0, 2, 0, 0, 4, 8, 0)},
			{queue.Limits{Messages: 4, DropOldest: true}, 3, []string{"a", "b", "c", "d", "e"}, errdefs.ErrMessageTooLarge,
				"5 messages at once", tally(3, 0, 0, 0, 0, 0, 3, 6, 0)},
		} {
			q := queueOf(t, test.limits)
			for range test.first {
				q.push("x")
			}
			err := q.EnqueueBatchAndWake(batchOf(test.batch...))
			if !errors.Is(err, test.want) || err != nil && !strings.Contains(err.Error(), test.text) {
				t.Errorf("%s, %+v: %v, want %v with %q", name, test.limits, err, test.want, test.text)
			}
			q.tallies(test.after)
			if err := q.Check(); err != nil {
				t.Error(err)
			}
			q.Close()
			if err := q.EnqueueBatchAndWake(batchOf("a")); err != errdefs.ErrStopped {
				t.Errorf("%s, closed: %v", name, err)
			}
		}
	}
}

// TestQueue_BatchThatDrops_KeepsWhatWasSent: with acknowledgements, all or none.
func TestQueue_BatchThatDrops_KeepsWhatWasSent(t *testing.T) {
	for name, batchOf := range batchForms {
		q := queueOf(t, queue.Limits{Messages: 4, DropOldest: true, Acks: true})
		q.push("a", "b")
		q.sends(2)
		q.push("c", "d")
		if err := q.EnqueueBatchAndWake(batchOf("1", "2", "3")); !errors.Is(err, errdefs.ErrBufferFull) {
			t.Errorf("%s: %v", name, err)
		}
		if err := q.EnqueueBatchAndWake(batchOf("1", "2")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		q.takes(framesOf("1", "2"))
		q.tallies(tally(6, 3, 0, 2, 0, 0, 4, 8, 2))
	}
}

// TestQueue_BatchThatWaits_ComesInWhole, in its turn; or not at all, if its context or the queue ends.
func TestQueue_BatchThatWaits_ComesInWhole(t *testing.T) {
	for name, batchOf := range batchForms {
		for _, end := range []string{"room", "context", "closed"} {
			synctest.Test(t, func(t *testing.T) {
				q := queueOf(t, queue.Limits{Messages: 4})
				q.push("a", "b", "c")
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error, 1)
				go func() { done <- q.EnqueueBatchWaitAndWake(ctx, batchOf("1", "2", "3")) }()
				synctest.Wait()
				q.refused("d", errdefs.ErrBufferFull)
				switch end {
				case "room":
					q.sends(3)
					synctest.Wait()
					q.takes(framesOf("1", "2", "3"))
				case "context":
					cancel()
				case "closed":
					q.Close()
				}
				want := map[string]error{"context": context.Canceled, "closed": errdefs.ErrStopped}[end]
				if err := <-done; !errors.Is(err, want) || end == "context" && !errors.Is(err, errdefs.ErrBufferFull) {
					t.Errorf("%s, %s: %v, want %v", name, end, err, want)
				}
				wantCounts := map[string]queue.Counts{
					"room": tally(6, 1, 3, 0, 0, 0, 3, 6, 0), "context": tally(3, 4, 0, 0, 0, 0, 3, 6, 0),
					"closed": tally(3, 1, 0, 0, 0, 0, 3, 6, 0),
				}[end]
				q.tallies(wantCounts)
				if err := q.Check(); err != nil {
					t.Errorf("%s, %s: %v", name, end, err)
				}
			})
		}
	}
}

// TestQueue_Batch_Expires as its messages would.
func TestQueue_Batch_Expires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(t, queue.Limits{MaxAge: time.Second})
		for _, batchOf := range batchForms {
			if err := q.EnqueueBatchAndWake(batchOf("a", "b")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(600 * time.Millisecond)
		}
		q.tallies(tally(4, 0, 0, 0, 2, 0, 2, 4, 0))
		time.Sleep(time.Second)
		q.tallies(tally(4, 0, 0, 0, 4, 0, 0, 0, 0))
	})
}

func TestQueue_Batch_DoesNotAllocate(t *testing.T) {
	message := make([]byte, 128)
	var messages [][]byte
	var frames []byte
	for range 1000 { // More than a chunk.
		messages = append(messages, message)
		frames = wire.AppendFrame(frames, message)
	}
	for name, batchOf := range map[string]func() queue.Batch{
		"messages": func() queue.Batch { return queue.BatchOfMessages(messages) },
		"frames":   func() queue.Batch { b, _ := queue.BatchOfFrames(frames, len(messages)); return b },
	} {
		q := queueOf(t, queue.Limits{})
		bufs := make([][]byte, 0, 64)
		if got := testing.AllocsPerRun(100, func() {
			if err := q.EnqueueBatchWaitAndWake(context.Background(), batchOf()); err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, b := range q.NextBatch(bufs, 1<<20) {
				n += len(b)
			}
			if _, err := q.MarkWritten(n); err != nil {
				t.Fatal(err)
			}
		}); got > 0.5 && !ipctest.RaceEnabled {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}

// TestBatchOfFrames_RefusesWhatIsNone, and names the frame.
func TestBatchOfFrames_RefusesWhatIsNone(t *testing.T) {
	for _, test := range []struct {
		frames string
		count  int
		want   string // Empty: accepted.
	}{
		{"", 0, ""}, {"\x00", 1, ""}, {"\x01a\x00\x02bc", 3, ""}, {frame(strings.Repeat("x", 300)), 1, ""},
		{"", 1, "there are 0 frames in 0 bytes, the count is 1"},
		{"\x01a", -1, "there are 1 frames in 2 bytes, the count is -1"},
		{"\x01a\x01b", 1, "there are 2 frames in 4 bytes, the count is 1"},
		{"\x01a\x02b", 2, "frame 2, at byte 2, is incomplete: there are 2 bytes from there"},
		{"\x01a\x80", 2, "frame 2, at byte 2, is incomplete"},
		{"\x80\x00", 1, "80 00 of frame 1, at byte 0, is longer than it need be"},
		{"\x81\x00a", 1, "81 00 of frame 1"},
		{strings.Repeat("\xff", 11), 1, "longer than 64 bits (frame 1, at byte 0)"},
		{strings.Repeat("\xff", 9) + "\x01", 1, "frame 1, at byte 0, is incomplete"},
	} {
		b, err := queue.BatchOfFrames([]byte(test.frames), test.count)
		if test.want == "" {
			if err != nil || b.Count != uint64(test.count) || b.Size != len(test.frames) {
				t.Errorf("% x: %+v, %v", test.frames, b, err)
			}
		} else if !errors.Is(err, errdefs.ErrInvalidLengthPrefix) || !strings.Contains(fmt.Sprint(err), test.want) {
			t.Errorf("% x: %v, want %q", test.frames, err, test.want)
		}
	}
}
