// SPDX-License-Identifier: Apache-2.0

package transport_test

// The buffer of a connection, step by step.

import (
	"net"
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/transport"
)

const kib = 1 << 10

// bufferOf returns an In with reads of so many bytes, whose peer is not there.
func bufferOf(t *testing.T, read int, left int64) testIn {
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	memory := &testMemory{Left: left}
	return testIn{transport.NewIn(near, transport.Limits{MaxMessageSize: 1 << 30, ReadSize: read}, memory), t, far, memory}
}

// has wants room, or none.
func (in testIn) has(want bool) {
	in.Helper()
	if got := in.EnsureBuffer(1); got != want {
		in.Errorf("room: %v, want %v", got, want)
	}
}

// left wants so much memory to be left for others.
func (in testIn) left(want int64) {
	in.Helper()
	if in.memory.Left != want {
		in.Errorf("%d bytes are left, want %d", in.memory.Left, want)
	}
}

// TestBuffer_New_GrowsToReadSize, and is as large as a read once much comes.
func TestBuffer_New_GrowsToReadSize(t *testing.T) {
	in := bufferOf(t, 100*kib, 1<<20)
	in.has(true)
	in.looks(16*kib, 0, 0, 0, 0)
	in.Arrive(16*kib - 1)
	in.Take(100)
	in.has(true)
	in.looks(16*kib, 100, 16*kib-1, 0, 0)
	in.Arrive(1)
	in.has(true)
	in.looks(16*kib, 0, 16*kib-100, 0, 0) // Moved to the front.
	in.Take(16*kib - 100)
	in.has(true)
	in.looks(16*kib, 0, 0, 0, 0)
	in.Arrive(16 * kib)
	in.Take(10)
	in.has(true)
	in.looks(128*kib, 0, 16*kib-10, 128*kib, 0)
	in.left(1<<20 - 128*kib)
	in.Take(16*kib - 10)
	in.has(true)
	in.looks(128*kib, 0, 0, 128*kib, 0)
	in.ReleaseBuffer()
	in.has(true)
	in.looks(128*kib, 0, 0, 128*kib, 0) // Much came.
	in.ReleaseBuffer()
	in.left(1 << 20)
	small := bufferOf(t, 1000, 1<<20)
	small.has(true)
	small.looks(1024, 0, 0, 0, 0)
	exact := bufferOf(t, 16*kib, 1<<20)
	exact.has(true)
	exact.looks(16*kib, 0, 0, 0, 0)
}

// TestBuffer_AfterLargeFrame_StartsLarge is as large as the last one at once.
func TestBuffer_AfterLargeFrame_StartsLarge(t *testing.T) {
	in := bufferOf(t, 16*kib, 1<<20)
	in.SetLargeFrameSize(40 * kib)
	in.has(true)
	in.looks(40*kib, 0, 0, 64*kib, 0)
	in.ReleaseBuffer()
	in.memory.Left = 64*kib - 1
	in.has(true)
	in.looks(16*kib, 0, 0, 0, 0) // As there is not as much.
	in.Arrive(16 * kib)
	in.WantBytes(40 * kib)
	in.has(false)
	in.memory.Left = 64 * kib
	in.has(true)
	in.looks(40*kib, 0, 16*kib, 64*kib, 40*kib)
}

// TestBuffer_FrameDoesNotFit_IsMovedToFront by moving it to the front, but only if it does not fit where it is.
func TestBuffer_FrameDoesNotFit_IsMovedToFront(t *testing.T) {
	in := bufferOf(t, 1000, 1<<20)
	in.has(true)
	in.Arrive(600)
	copy(in.Bytes()[500:], "abc")
	in.Take(500)
	in.WantBytes(524)
	in.has(true)
	in.looks(1024, 500, 600, 0, 524)
	in.WantBytes(525)
	in.has(true)
	in.looks(1024, 0, 100, 0, 525)
	if got := string(in.Bytes()[:3]); got != "abc" {
		t.Errorf("the frame begins with %q", got)
	}
}

// TestBuffer_Full_GrowsUpToFrame: four times at most, up to the frame, and one byte at least.
func TestBuffer_Full_GrowsUpToFrame(t *testing.T) {
	for _, test := range []struct{ read, full, need, want int }{
		{512, 512, 0, 2 * kib}, {512, 512, 600, 640}, {512, 512, 4 * kib, 2 * kib}, {512, 512, 513, 576},
		{4 * kib, 4 * kib, 0, 16 * kib}, {8 * kib, 8 * kib, 0, 16 * kib}, {8 * kib, 8 * kib, 20 * kib, 16 * kib},
		{16 * kib, 16 * kib, 0, 64 * kib}, {16 * kib, 16 * kib, 20 * kib, 20 * kib},
		{16 * kib, 16 * kib, 100 * kib, 64 * kib},
		{32 * kib, 16 * kib, 5, 32 * kib}, {16 * kib, 16 * kib, 5, 18 * kib},
	} {
		in := bufferOf(t, test.read, 1<<20)
		in.has(true)
		in.Arrive(test.full)
		in.WantBytes(test.need)
		in.has(true)
		if got := in.Buffered(); got.Size != test.want || got.To != test.full {
			t.Errorf("%+v: %+v", test, got)
		}
	}
}

// TestBuffer_ReadEnd_IsFrameBoundary, if the next frames are as large as the last one; of small ones it is not.
func TestBuffer_ReadEnd_IsFrameBoundary(t *testing.T) {
	for _, test := range []struct{ last, from, to, need, want int }{
		{4*kib - 3, 0, 0, 0, 64 * kib}, {4*kib - 2, 0, 0, 0, 64 * kib}, {4*kib - 1, 0, 0, 0, 15 * (4*kib + 1)},
		{20 * kib, 0, 0, 0, 3 * (20*kib + 3)},       // At a boundary.
		{20 * kib, 100, 101, 0, 100 + 3*(20*kib+3)}, // Of the next frame, a part of the prefix is there.
		{20 * kib, 100, 200, 1000, 1100 + 3*(20*kib+3)},
		{20 * kib, 100, 200, 64*kib - 100, 64 * kib},     // It ends with the buffer,
		{20 * kib, 100, 200, 64*kib - 99, 64 * kib},      // or does not fit.
		{64*kib - 3, 0, 0, 0, 64 * kib},                  // The last one filled the buffer,
		{64*kib - 2, 0, 0, 0, 64 * kib},                  // or did not fit.
		{64 * kib, 10, 20, 1000, 1010},                   // Another one of its size does not fit.
		{4 * kib, 1, 5*kib + 1, 0, 64 * kib},             // No prefix is as long.
		{4*kib - 1, 0, 60 * kib, 60*kib + 1, 60*kib + 1}, // One byte is missing.
	} {
		in := bufferOf(t, 64*kib, 1<<20)
		in.Arrive(64 * kib)
		in.Take(64 * kib)
		in.has(true)
		in.Arrive(test.to)
		in.Take(test.from)
		in.WantBytes(test.need)
		in.SetLastLength(test.last)
		if got := in.ReadEnd(); got != test.want {
			t.Errorf("%+v: up to %d", test, got)
		}
	}
}

// TestBuffer_ReadEnd_FollowsFrame: a frame larger than a read is read to its end; for a hand-over each is.
func TestBuffer_ReadEnd_FollowsFrame(t *testing.T) {
	in := bufferOf(t, 1000, 1<<20)
	in.has(true)
	in.Arrive(10)
	in.Take(4)
	for _, test := range []struct{ need, ceiling, frame int }{
		{0, 1024, 11}, {5, 1024, 11}, {6, 1024, 11}, {7, 1024, 11}, {8, 1024, 12},
		{1000, 1024, 1004}, {1024, 1024, 1024}, {1025, 1024, 1024}, {5000, 1024, 1024},
	} {
		in.WantBytes(test.need)
		if ceiling, frame := in.ReadEnd(), in.FrameEnd(); ceiling != test.ceiling || frame != test.frame {
			t.Errorf("a frame of %d: up to %d, for a hand-over %d; want %d and %d", test.need,
				ceiling, frame, test.ceiling, test.frame)
		}
	}
	large := bufferOf(t, 1000, 1<<20)
	large.SetLargeFrameSize(8 * kib)
	large.has(true)
	large.Arrive(10)
	large.Take(4)
	large.WantBytes(1025)
	if got := large.ReadEnd(); got != 1029 {
		t.Errorf("up to %d", got)
	}
	large.WantBytes(1024)
	if got := large.ReadEnd(); got != 8*kib {
		t.Errorf("up to %d", got)
	}
}

// TestBuffer_Wait_ShrinksToContents as small as what it holds, unless to move that costs more than it saves.
func TestBuffer_Wait_ShrinksToContents(t *testing.T) {
	for _, test := range []struct{ read, holds, want int }{
		{1000, 0, 0}, {1000, 1, 512}, {1000, 512, 512}, {1000, 513, 1024}, {1000, 1024, 1024},
		{128 * kib, 60 * kib, 60 * kib}, {128 * kib, 64 * kib, 64 * kib}, {128 * kib, 64*kib + 1, 128 * kib},
		{256 * kib, 64 * kib, 64 * kib}, {256 * kib, 64*kib + 1, 256 * kib},
		{2 << 20, 65 * kib, 72 * kib}, {2 << 20, 128*kib - 1, 128 * kib}, {2 << 20, 128 * kib, 2 << 20},
	} {
		in := bufferOf(t, test.read, 1<<30)
		in.Arrive(16 * kib) // Much came.
		in.ReleaseBuffer()
		in.has(true)
		in.Arrive(test.holds + 3)
		in.Take(3)
		in.ShrinkForWait()
		got := in.Buffered()
		if got.Size != test.want || got.To-got.From != test.holds {
			t.Errorf("%+v: %+v", test, got)
		}
		price := int64(0)
		if test.want > 16*kib {
			price = 1
			for price < int64(test.want) {
				price *= 2
			}
		}
		if got.Loan != price || in.memory.Left != 1<<30-price {
			t.Errorf("%+v: a loan of %d, %d are left", test, got.Loan, in.memory.Left)
		}
		in.ShrinkForWait()
		if again := in.Buffered(); again != got {
			t.Errorf("%+v: parked again %+v", test, again)
		}
		in.ReleaseForPause()
		in.left(1 << 30)
	}
}

// TestBuffer_Pause_ShrinksToContents, and reserves nothing for them.
func TestBuffer_Pause_ShrinksToContents(t *testing.T) {
	for _, test := range []struct{ holds, want int }{
		{0, 0}, {1, 512}, {40 * kib, 40 * kib}, {64 * kib, 64 * kib}, {64*kib + 1, 128 * kib},
	} {
		in := bufferOf(t, 128*kib, 1<<30)
		in.Arrive(16 * kib) // Much came.
		in.ReleaseBuffer()
		in.has(true)
		in.Arrive(test.holds + 3)
		in.Take(3)
		kept := in.ReleaseForPause()
		got := in.Buffered()
		if kept != test.holds || got.Size != test.want || got.To-got.From != test.holds || got.Loan != 0 {
			t.Errorf("%+v: %d bytes are kept in %+v", test, kept, got)
		}
		in.left(1 << 30)
	}
}

// TestBuffer_OthersWait_YieldsMemory, while others wait, what the message at hand does not need.
func TestBuffer_OthersWait_YieldsMemory(t *testing.T) {
	for _, test := range []struct {
		waits bool
		turn  uint64
		holds int
		want  transport.Buffered
	}{
		{false, 2, 0, transport.Buffered{Size: 128 * kib, Loan: 128 * kib}},
		{true, 2, 0, transport.Buffered{Size: 16 * kib}},
		{true, 2, 5 * kib, transport.Buffered{Size: 16 * kib, To: 5 * kib}},
		{true, 2, 40 * kib, transport.Buffered{Size: 40 * kib, To: 40 * kib, Loan: 64 * kib}},
		{true, 2, 100 * kib, transport.Buffered{Size: 128 * kib, To: 100 * kib, Loan: 128 * kib}},
		{true, 0, 5 * kib, transport.Buffered{Size: 128 * kib, To: 5 * kib, Loan: 128 * kib}},
	} {
		in := bufferOf(t, 128*kib, 1<<30)
		in.Arrive(16 * kib) // Much came.
		in.ReleaseBuffer()
		in.has(true)
		in.Arrive(test.holds)
		in.memory.Waits.Store(test.waits)
		if test.waits {
			in.memory.Left = 0
		}
		if room := in.EnsureBuffer(test.turn); !room {
			t.Errorf("%+v: no room", test)
		}
		if got := in.Buffered(); got != test.want && test.holds != 40*kib { // That one grows again at once.
			t.Errorf("%+v: %+v", test, got)
		}
	}
}

// TestIn_AnyEndRequested_IsEnding when any end of it was requested.
func TestIn_AnyEndRequested_IsEnding(t *testing.T) {
	for what, end := range map[string]func(*transport.In){
		"closed": func(in *transport.In) { in.RequestClose(0) }, "halted": func(in *transport.In) { in.Halt() },
		"handed over": func(in *transport.In) { in.RequestHandOver() },
	} {
		near, _ := ipctest.SocketPair(t)
		in := transport.NewIn(near, transport.Limits{MaxMessageSize: 100, ReadSize: 1000}, &testMemory{})
		if in.IsEnding() {
			t.Error("it ends by itself")
		}
		end(in)
		if !in.IsEnding() {
			t.Errorf("%s: it does not end", what)
		}
	}
}

// TestBuffer_Kept_IsNotReused: the memory of a message that is kept is not written again, until it is
// released.
func TestBuffer_Kept_IsNotReused(t *testing.T) {
	in := bufferOf(t, 16*kib, 1<<20)
	in.has(true)
	in.Arrive(6 * kib)
	in.Take(6 * kib)
	kept := in.Keep()
	in.has(true)
	in.looks(16*kib, 6*kib, 6*kib, 0, 0) // There is space behind it.
	in.Arrive(4 * kib)
	in.Take(4 * kib)
	in.has(true)
	in.looks(16*kib, 0, 0, 0, 0) // Another buffer: more than half was used.
	if again := in.Keep(); again == kept {
		t.Error("the buffer is the same")
	} else {
		again.Release()
	}
	in.Arrive(12 * kib)
	in.Take(12 * kib)
	in.has(true)
	in.looks(16*kib, 0, 0, 0, 0) // Nobody keeps this one.
	in.Arrive(16 * kib)
	in.Take(10 * kib)
	other := in.Keep()
	in.has(true)
	in.looks(16*kib, 0, 6*kib, 0, 0) // The rest is moved.
	in.Take(6 * kib)
	if kept.Bytes()[0], other.Bytes()[0] = 1, 2; in.Buffered().Size == 0 {
		t.Error("no buffer")
	}
	last := in.Keep()
	in.ReleaseBuffer()
	in.looks(0, 0, 0, 0, 0)
	for _, b := range []interface{ Release() }{kept, other, last} {
		b.Release()
	}
	if in.Keep() != nil {
		t.Error("a buffer without one")
	}
}
