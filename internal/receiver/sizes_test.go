// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
)

// edges are the sizes at which something changes: the length prefix, the smallest buffer, the one that costs no
// memory of WithMaxReadMemory, a chunk of the queue, the usual read, a batch, and the largest buffer of the pool.
var edges = []int{128, 512, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 16 << 20}

// A sweep is a Writer, and a Reader that checks that all messages are beginnings of one pattern.
type sweep struct {
	*testing.T
	w       *udsipc.Writer
	pattern []byte
	handled atomic.Uint64
	gate    chan struct{} // A message of no bytes waits for it.
}

func newSweep(t *testing.T, on *ipctest.Route) *sweep {
	s := &sweep{
		T: t, pattern: bytes.Repeat([]byte("0123456789abcdefghijklmnopqrstuvw"), 16<<20/33+100),
		gate: make(chan struct{}),
	}
	t.Cleanup(func() { close(s.gate) })
	limit := udsipc.WithMaxMessageSize(32 << 20)
	on.StartReader(t, func(data []byte) error {
		if len(data) == 0 {
			<-s.gate
		}
		if !bytes.Equal(data, s.pattern[:len(data)]) {
			t.Errorf("a message of %d bytes is damaged", len(data))
		}
		s.handled.Add(1)
		return nil
	}, limit, udsipc.WithInactivityTimeout(0), udsipc.WithHeartbeatTimeout(0)) // So that what hangs, hangs.
	s.w = on.StartWriter(t, limit, udsipc.WithHeartbeatTimeout(0))
	return s
}

func (s *sweep) write(size int) {
	s.Helper()
	if err := s.w.WriteMessage(s.pattern[:size]); err != nil {
		s.Fatal(err)
	}
}

// flush fails unless everything is delivered; 30 s are what a hang may cost.
func (s *sweep) flush(what string, size int) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 30*time.Second)
	defer cancel()
	if err := s.w.Flush(ctx); err != nil {
		s.Fatalf("%s of %d bytes: %v", what, size, err)
	}
}

// end fails unless each message was handled.
func (s *sweep) end() {
	s.Helper()
	ipctest.Until(s, "all messages are handled", func() bool { return s.handled.Load() >= s.w.Metrics().Accepted })
	ipctest.CheckGracefulStop(s, s.w, s.handled.Load())
}

// TestReader_SizesAtEveryEdge_Arrive flushes after each message whose size, or frame, lies at an edge.
func TestReader_SizesAtEveryEdge_Arrive(t *testing.T) {
	t.Parallel()
	ipctest.OverModes(t, func(t *testing.T, on *ipctest.Route) {
		s := newSweep(t, on)
		for _, edge := range edges {
			for d := -5; d <= 5; d++ {
				if edge > 1<<20 && (testing.Short() || d != 1 && d != -4) { // With its prefix -4 is the edge.
					continue
				}
				s.write(edge + d)
				s.flush("a message", edge+d)
			}
		}
		s.end()
	})
}

// TestReader_BurstFillsBuffer_Acknowledges has all bytes that are there fill a buffer of the Reader, or nearly. It
// must not wait for more before it acknowledges, nor forget any.
func TestReader_BurstFillsBuffer_Acknowledges(t *testing.T) {
	t.Parallel()
	ipctest.OverModes(t, func(t *testing.T, on *ipctest.Route) {
		t.Parallel()
		s := newSweep(t, on)
		for _, edge := range edges {
			if edge > 256<<10 {
				break
			}
			for d := -2; d <= 2; d++ {
				for _, first := range []int{0, 512, 16 << 10} { // A smaller buffer may be filled before this one.
					s.burst(first + edge + d)
				}
			}
		}
		s.end()
	})
}

// burst has so many bytes wait for the Reader while its handler is busy, if a socket can hold them.
func (s *sweep) burst(total int) {
	s.Helper()
	const each = 100
	if s.write(0); total < 64<<10 {
		defer func() {
			ipctest.Until(s, "all is sent", func() bool { m := s.w.Metrics(); return m.Sent+m.Unacknowledged == m.Accepted })
			s.gate <- struct{}{}
			s.flush("a burst", total)
		}()
	} else {
		s.gate <- struct{}{}
		defer s.flush("a burst", total)
	}
	left := total
	for ; left > each+1; left -= each + 1 {
		s.write(each)
	}
	if left > 1 { // Else it would be one that waits.
		s.write(left - 1)
	}
}
