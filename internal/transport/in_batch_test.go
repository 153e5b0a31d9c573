// SPDX-License-Identifier: Apache-2.0

package transport_test

// Messages that are handed over in batches.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// gathers wants Gather to count this.
func (in testIn) gathers(limit, messages int, final bool) {
	in.Helper()
	if got, isFinal := in.Gather(limit); got != messages || isFinal != final {
		in.Errorf("gathered are %d, final %v; want %d, %v", got, isFinal, messages, final)
	}
}

// takes wants TakeBatch to hand these over.
func (in testIn) takes(limit int, want ...string) {
	in.Helper()
	messages, rest := in.TakeBatch(limit)
	if messages != len(want) {
		in.Fatalf("%d messages, want %d", messages, len(want))
	}
	for _, message := range want {
		var data []byte
		if data, rest = in.FirstMessage(rest); string(data) != message || cap(data) != len(data) {
			in.Errorf("got %.40q of %d, want %.40q", data, cap(data), message)
		}
	}
}

func TestIn_Gather_CountsWholeMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{MaxMessageSize: 200})
		in.gathers(9, 0, false)
		long := strings.Repeat("k", 150)
		in.comes(framed("a") + framed("") + framed(long) + "\x05ef")
		in.gathers(2, 2, true)
		in.gathers(9, 3, false)
		if in.Received() != 0 || in.WholeMessages() != 3 {
			t.Errorf("%d were handed over, %d are whole", in.Received(), in.WholeMessages())
		}
		in.comes("ghi" + framed("j") + "\x80") // The others stay where they are.
		in.gathers(9, 5, false)
		in.takes(2, "a", "")
		in.gathers(9, 3, false)
		in.takes(9, long, "efghi", "j")
		in.gathers(9, 0, false)
		in.gives()
		if in.Received() != 5 || in.PartialBytes() != 1 {
			t.Errorf("%d were handed over, %d bytes of the next", in.Received(), in.PartialBytes())
		}
		in.comes("\x80\x80")
		in.gathers(9, 0, false)
		in.comes(strings.Repeat("\x80", 12))
		in.gathers(9, 0, true) // No length has so many bytes. Next says so.
		if _, ok, err := in.Next(); ok || err == nil {
			t.Errorf("%v, %v", ok, err)
		}
	})
}

// TestIn_Gather_FillsOneRead: a batch has the bytes of a read, or one larger message.
func TestIn_Gather_FillsOneRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{ReadSize: 1024})
		third := strings.Repeat("x", 300)
		fills := func(whole uint64, partial int) {
			t.Helper()
			for in.Gather(9); in.WholeMessages() < whole || in.PartialBytes() < partial; in.Gather(9) {
				if err := in.Fill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		large := framed(strings.Repeat("y", 2000))
		in.sends(strings.Repeat(framed(third), 3))
		fills(3, 0)
		in.gathers(9, 3, false)
		in.sends(large)
		fills(3, 3*302+2)
		in.gathers(9, 3, true) // The next one has no room.
		in.takes(9, third, third, third)
		in.gathers(9, 0, false)
		fills(1, 0)
		in.gathers(9, 1, true)
		in.takes(9, strings.Repeat("y", 2000))
	})
}

// TestIn_GatheredMemory_IsGivenUp: memory that others wait for is not kept for more messages.
func TestIn_GatheredMemory_IsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		now := time.Now()
		for want, size := range map[time.Duration]int{time.Hour: 100, 2 * time.Second: 20 << 10} {
			stream := framed(strings.Repeat("x", size))
			in.sends(stream)
			for in.PartialBytes() < len(stream) {
				in.gathers(9, 0, false)
				if err := in.Fill(); err != nil {
					t.Fatal(err)
				}
			}
			in.gathers(9, 1, false)
			in.memory.Waits.Store(true)
			in.gathers(9, 1, want < time.Hour)
			in.memory.Waits.Store(false)
			if got := in.GatherDeadline(now, now.Add(time.Hour)).Sub(now); got != want {
				t.Errorf("a wait with %d bytes may last %v, want %v", size, got, want)
			}
			in.TakeBatch(9)
			in.ReleaseBuffer()
		}
	})
}

// TestIn_Gathered_EndRequested_MustBeTaken, before the connection is read any further.
func TestIn_Gathered_EndRequested_MustBeTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		in.comes(framed("a") + "\x05b")
		in.gathers(9, 1, false)
		time.AfterFunc(time.Second, func() { in.RequestClose(wire.CloseOrderly) })
		in.wantEnd(time.Second, transport.ErrGathered)
		in.takes(9, "a")
		said := in.heard()
		in.wantEnd(transport.CloseGrace, transport.ErrGracefulEnd)
		said()
	})
}

// decodeAll returns the messages and errors of a stream that comes in pieces, by next.
func decodeAll(t *testing.T, pieces [][]byte, limit, readSize int, session bool,
	next func(in *transport.In, found func(string)) error) (all []string) {
	in := transport.NewIn(&pieceConn{pieces: pieces}, transport.Limits{MaxMessageSize: uint64(limit), ReadSize: readSize},
		&testMemory{Left: 1 << 30})
	var acks *transport.AckSender
	if session {
		acks = in.BeginSession(5, 0, 0, 0)
		acks.BeginBatches()
	}
	defer in.ReleaseBuffer()
	for {
		err := next(in, func(message string) { all = append(all, message) })
		switch {
		case errors.Is(err, transport.ErrSessionPreface), err != nil && !strings.Contains(err.Error(), "the limit is"):
			return append(all, "error "+err.Error())
		case err != nil:
			all = append(all, "error "+err.Error())
			continue
		}
		if err := in.Fill(); err != nil {
			if session && acks.Handled() != acks.Seq() {
				t.Errorf("%d of %d are handled", acks.Handled(), acks.Seq())
			}
			return append(all, fmt.Sprint(err, in.Received(), in.PartialBytes(), in.Skipping(), in.WholeMessages()))
		}
	}
}

// FuzzGather: batches of any size have the messages that Next finds, in any pieces.
func FuzzGather(f *testing.F) {
	f.Add([]byte(framed("a")+framed("")+framed("bcd")+"\x05ef"), uint8(2), uint8(2), uint8(9), false)
	f.Add([]byte(framed("a")+"\x80\x00"+framed("b")+"\x80\x00\x80\x00"), uint8(1), uint8(3), uint8(9), true)
	f.Add([]byte(framed("abcdef")+framed("b")+framed("abcdef")), uint8(3), uint8(100), uint8(3), false)
	f.Add(bytes.Repeat([]byte("\x03abc\x01z"), 300), uint8(7), uint8(255), uint8(200), true)
	f.Add([]byte("a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80"), uint8(7), uint8(255), uint8(200), false)
	f.Fuzz(func(t *testing.T, b []byte, batch, piece, limit uint8, session bool) {
		pieces := func() (all [][]byte) {
			for n := range len(b)/(int(piece)+1) + 1 {
				from := n * (int(piece) + 1)
				all = append(all, bytes.Clone(b[from:min(from+int(piece)+1, len(b))]))
			}
			return all
		}
		next := func(in *transport.In, found func(string)) error {
			for {
				data, ok, err := in.Next()
				if !ok {
					return err
				}
				found(string(data))
			}
		}
		gather := func(in *transport.In, found func(string)) error {
			for {
				counted, final := in.Gather(int(batch) + 1)
				if counted == 0 {
					_, ok, err := in.Next()
					if ok {
						t.Error("Next has a message that Gather does not count")
					}
					return err
				}
				if !final && in.Received()%2 == 0 { // Wait for more.
					if err := in.Fill(); err == nil {
						continue
					} else if err != io.EOF {
						t.Error(err)
					}
				}
				taken, frames := in.TakeBatch(int(batch) + 1)
				if taken != counted {
					t.Errorf("%d were counted, %d are handed over", counted, taken)
				}
				for range taken {
					var data []byte
					data, frames = in.FirstMessage(frames)
					found(string(data))
				}
				if session {
					in.Session().MarkBatchHandled(taken)
				}
			}
		}
		want := decodeAll(t, pieces(), int(limit), 512, session, next)
		if got := decodeAll(t, pieces(), int(limit), 512, session, gather); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
