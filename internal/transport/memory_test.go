// SPDX-License-Identifier: Apache-2.0

package transport_test

// The read memory of a connection: the growth of its buffer, and the wait for memory.

import (
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc/internal/transport"
)

// TestIn_Buffer_GrowsAndShrinks with what has come, four times at most, up to the frame, and gets
// small again for a wait.
func TestIn_Buffer_GrowsAndShrinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		large := strings.Repeat("x", 100_000)
		bytes := framed(large)
		in.comes(bytes[:512])
		in.gives()
		in.looks(512, 0, 512, 0, 100_003)
		in.comes(bytes[512:2048])
		in.looks(16<<10, 0, 2048, 0, 100_003)
		in.comes(bytes[2048 : 16<<10])
		in.looks(16<<10, 0, 16<<10, 0, 100_003)
		in.comes(bytes[16<<10 : 60_000])
		in.looks(64<<10, 0, 60_000, 64<<10, 100_003)
		in.comes(bytes[60_000 : 64<<10])
		in.comes(bytes[64<<10:])
		in.looks(13<<13, 0, 100_003, 128<<10, 100_003)
		in.gives(large)
		in.ReleaseBuffer()
		in.looks(0, 0, 0, 0, 0)
		if in.memory.Left != 1<<30 {
			t.Errorf("%d are lost", 1<<30-in.memory.Left)
		}
	})
}

// TestIn_FullBuffer_WaitsForMemory when it is full, and nothing is left.
func TestIn_FullBuffer_WaitsForMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		in.memory.Left = 0
		large := strings.Repeat("x", 40_000)
		bytes := framed(large)
		in.comes(bytes[:512])
		in.gives()
		in.comes(bytes[512 : 16<<10])
		in.gives()
		done := make(chan error, 1)
		in.sends(bytes[16<<10:])
		in.memory.Granted = make(chan struct{})
		go func() { done <- in.Fill() }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
		close(in.memory.Granted)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		in.gives(large)
		// The end of the connection ends such a wait, and its deadline does.
		for _, end := range []string{"halt", "limit"} {
			in := inOf(t, transport.Limits{})
			in.memory.Left = 0
			in.comes(bytes[:512])
			in.gives()
			in.comes(bytes[512 : 16<<10])
			in.gives()
			go func() { done <- in.Fill() }()
			synctest.Wait()
			if end == "halt" {
				in.Halt()
				if err := <-done; err != transport.ErrGracefulEnd {
					t.Error(err)
				}
			} else {
				if err := in.SetUserDeadline(time.Now().Add(time.Second)); err != nil {
					t.Error(err)
				}
				began := time.Now()
				if err := <-done; !isTimeoutError(err) || time.Since(began) != time.Second {
					t.Error(err, time.Since(began))
				}
			}
			if in.memory.Cancels != 1 {
				t.Errorf("%s: %d cancels", end, in.memory.Cancels)
			}
		}
	})
}

// TestIn_Suspended_HoldsNoMemory holds no memory while the peer decides how long a wait is.
func TestIn_Suspended_HoldsNoMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		in.comes(framed(strings.Repeat("x", 300))[:100])
		if kept := in.ReleaseForPause(); kept != 100 {
			t.Errorf("%d bytes are kept", kept)
		}
		in.looks(512, 0, 100, 0, 0)
		in.comes(strings.Repeat("x", 202))
		in.gives(strings.Repeat("x", 300))
		if kept := in.ReleaseForPause(); kept != 0 {
			t.Errorf("%d bytes are kept", kept)
		}
		in.looks(0, 0, 0, 0, 0)
	})
}

// TestIn_WaitForMemory_KeepsPlaceOfMessage to its end, and begins the next message without one.
func TestIn_WaitForMemory_KeepsPlaceOfMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		in.memory.Granted = make(chan struct{})
		close(in.memory.Granted) // Each wait ends at once.
		for range 2 {
			in.sends(framed(strings.Repeat("x", 100<<10)))
			for got := false; !got; {
				in.memory.Left = 0
				if err := in.Fill(); err != nil {
					t.Fatal(err)
				}
				_, got, _ = in.Next()
			}
		}
		if want := []uint64{0, 7, 0, 7}; !slices.Equal(in.memory.Tickets, want) {
			t.Errorf("tickets %d, want %d", in.memory.Tickets, want)
		}
	})
}

// TestIn_HalfFullBuffer_IsKept for the next read: to move its bytes would cost more.
func TestIn_HalfFullBuffer_IsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{})
		in.sends(strings.Repeat(framed(strings.Repeat("x", 1<<10-2)), 1000))
		for fills := 0; fills < 3; {
			if err := in.Fill(); err != nil {
				t.Fatal(err)
			}
			if in.Buffered() == (transport.Buffered{Size: 64 << 10, To: 64 << 10, Loan: 64 << 10}) {
				for range 32 {
					in.Next()
				}
				if err := in.Fill(); err != nil {
					t.Fatal(err)
				}
				in.looks(64<<10, 0, 64<<10, 64<<10, 0)
				fills++
			}
			for ok := true; ok; {
				_, ok, _ = in.Next()
			}
		}
	})
}

// TestIn_ContestedMemory_IsHeldThirtySeconds at most, though the peer sends a byte now and then.
func TestIn_ContestedMemory_IsHeldThirtySeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, contested := range []bool{true, false} {
			in := holding(t, transport.Limits{})
			in.memory.Waits.Store(contested)
			began := time.Now()
			go func() { // Ends with the connection.
				for range 40 {
					time.Sleep(time.Second)
					in.peer.Write([]byte("x"))
				}
				in.peer.Close()
			}()
			err := error(nil)
			for err == nil {
				if err = in.Fill(); err == nil {
					in.gives()
				}
			}
			took, want := time.Since(began), io.EOF
			if contested {
				want = transport.ErrHoldsMemory
			}
			if err != want || contested && (took < 30*time.Second || took > 32*time.Second) {
				t.Errorf("contested %v: %v after %v", contested, err, took)
			}
			in.Close()
		}
	})
}

// TestIn_FilledBuffer_WaitsWithLittle once most of what it held is handled.
func TestIn_FilledBuffer_WaitsWithLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := inOf(t, transport.Limits{IdleTimeout: time.Second})
		in.sends(strings.Repeat(framed(strings.Repeat("x", 1<<10-2)), 512) + "\x05abc")
		for {
			err := in.Fill()
			if isTimeoutError(err) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			for ok := true; ok; {
				_, ok, _ = in.Next()
			}
		}
		in.looks(512, 0, 4, 0, 6)
	})
}

// TestIn_SmallFrame_EndsLargeBuffers: only after a large frame the next buffer is as large at once.
func TestIn_SmallFrame_EndsLargeBuffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, small := range []bool{false, true} {
			in := inOf(t, transport.Limits{})
			in.sends(framed(strings.Repeat("x", 100_000)))
			for in.Received() == 0 {
				if err := in.Fill(); err != nil {
					t.Fatal(err)
				}
				in.Next()
			}
			want := 104 << 10 // The class of the frame.
			if small {
				in.comes(framed("a"))
				in.gives("a")
				want = 16 << 10
			}
			in.ReleaseBuffer()
			in.EnsureBuffer(9)
			if got := in.Buffered().Size; got != want {
				t.Errorf("after a small frame %v: a buffer of %d bytes, want %d", small, got, want)
			}
		}
	})
}
