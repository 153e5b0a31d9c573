// SPDX-License-Identifier: Apache-2.0

package transport_test

// The read memory of a connection: the growth of its buffer, and the wait for memory.

import (
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
